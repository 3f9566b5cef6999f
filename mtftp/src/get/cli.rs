//! The command line.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};
use wire::pxe::{BootItem, MulticastTags};
use wire::tftp::{BLOCK_SIZE_DEFAULT, BLOCK_SIZE_UNFRAGMENTED, Rollover};
use wire::{FileName, GroupAddr, Layer, Mac, ServerType, Uuid};

use super::sink::Hash;
use crate::client::discovery::{Found, Question};
use crate::client::{Method, TFTP_PORT, Wanted};
use crate::limits::LOAD_CLIENTS_MAX;

/// Where boot servers are asked.
const DISCOVERY_PORT: u16 = 4011;

const EXIT_CODES: &str = "\
Exit codes:
  0  the file is there
  1  this host failed: a socket, the disk
  2  the command line is wrong
  3  nobody answered, or the time was over
  4  the server said ERROR
  5  the server broke the protocol
  6  it cannot be had by multicast, and --no-fall-back was given
  7  --clients: not all of them have the file, or it is not that of --sha256";

/// By what protocol to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    /// RFC 2090 where the server offers it, else plain TFTP
    Rfc2090,
    /// PXE-MTFTP on the address that the boot server answers, or on --group and --server-port
    Mtftp,
    /// plain TFTP
    Tftp,
}

/// Fetches a boot file as a PXE client does: by multicast where it can, by plain TFTP where it cannot.
#[derive(Debug, Parser)]
#[command(name = "mtftp-get", version, after_help = EXIT_CODES)]
pub(super) struct Arguments {
    /// The file, as the server has it; without it a boot server is asked what to load
    #[arg(value_name = "FILE", value_parser = file_name, requires = "server", required_unless_present = "type_")]
    pub(super) file: Option<FileName>,
    /// The file server
    #[arg(long, value_name = "ADDRESS", requires = "file")]
    server: Option<Ipv4Addr>,
    /// Ask for a boot item of this type, such as 0x8001
    #[arg(id = "type_", long = "type", value_name = "TYPE", value_parser = number, conflicts_with = "file")]
    server_type: Option<u16>,
    /// Of this layer
    #[arg(long, value_name = "LAYER", default_value = "0", value_parser = number, requires = "type_")]
    layer: u16,
    /// For this architecture (option 93)
    #[arg(long, value_name = "NUMBER", default_value = "0", value_parser = number, requires = "type_")]
    arch: u16,
    /// Ask this boot server; may stand there several times, each is asked when the one before is silent
    #[arg(long, value_name = "ADDRESS[:PORT]", default_value = "224.0.1.2", value_parser = boot_server)]
    boot_server: Vec<SocketAddrV4>,
    /// Where to put it: a file, or - for standard output [default: the last part of the file's name, here]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// How to begin
    #[arg(long, value_enum, default_value = "rfc2090")]
    method: Protocol,
    /// PXE-MTFTP: the multicast address, and the port to listen on
    #[arg(long, value_name = "ADDRESS:PORT", requires = "file")]
    group: Option<SocketAddrV4>,
    /// PXE-MTFTP: the port to which opens go
    #[arg(long, value_name = "PORT", default_value_t = 1760)]
    server_port: u16,
    /// PXE-MTFTP: seconds to listen before an open, and to wait for a block
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    delay_s: u8,
    /// Discovery and PXE-MTFTP exactly as Intel's client does them, with its intolerance
    #[arg(long)]
    strict: bool,
    /// The UDP port of requests
    #[arg(long, value_name = "PORT", default_value_t = TFTP_PORT)]
    port: u16,
    /// Bytes of a block to ask for, 8 to 1468: larger ones would be fragmented; 512 does without the option
    #[arg(long, value_name = "BYTES", default_value_t = BLOCK_SIZE_UNFRAGMENTED, value_parser = clap::value_parser!(u16).range(8..=1468))]
    blksize: u16,
    /// Blocks of a window of plain TFTP to ask for; 1 does without the option
    #[arg(long, value_name = "BLOCKS", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    windowsize: u16,
    /// What comes after block 65535 of plain TFTP: ask for 0 or 1 [default: 0, without asking]
    #[arg(long, value_name = "0|1", value_parser = clap::value_parser!(u8).range(0..=1))]
    rollover: Option<u8>,
    /// Do not take the file by plain TFTP where multicast does not work
    #[arg(long)]
    no_fall_back: bool,
    /// Seconds before a packet is repeated
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    patience_s: u8,
    /// Repeats before the server counts as dead
    #[arg(long, value_name = "COUNT", default_value_t = 5)]
    tries: u32,
    /// Load: so many clients at once in this process, each with ports of its own. Nothing is written: each byte of each
    /// client is compared with what the first one got for its place
    #[arg(long, value_name = "COUNT", conflicts_with = "output", value_parser = clap::value_parser!(u16).range(1..=i64::from(LOAD_CLIENTS_MAX)))]
    clients: Option<u16>,
    /// Load: addresses of the interface over which clients are dealt; mtftpd takes 8 transfers of one address. Give them to
    /// the interface by `ip address add` before; PXE-MTFTP needs one for each client
    #[arg(long, value_name = "FIRST-LAST", requires_all = ["clients", "interface"], conflicts_with = "address", value_parser = addresses)]
    from: Option<RangeInclusive<Ipv4Addr>>,
    /// Load: seconds over which the starts are spread
    #[arg(long, value_name = "SECONDS", default_value_t = 0, requires = "clients", value_parser = clap::value_parser!(u16).range(..=3600))]
    over: u16,
    /// Load: the SHA-256 that the file must have, 64 hexadecimal digits
    #[arg(long, value_name = "HASH", requires = "clients", value_parser = sha256)]
    sha256: Option<Hash>,
    /// Seconds that it may take in all
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub(super) timeout_s: u64,
    /// The network interface [default: the only one]
    #[arg(long, value_name = "NAME")]
    pub(super) interface: Option<String>,
    /// Our address on it [default: its only one]
    #[arg(long, value_name = "ADDRESS", requires = "interface")]
    address: Option<Ipv4Addr>,
    /// Tell the result as one JSON object: to standard output, or standard error where the file goes to that
    #[arg(long)]
    pub(super) json: bool,
    /// Do not show how far it is
    #[arg(short, long)]
    pub(super) quiet: bool,
}

fn file_name(text: &str) -> Result<FileName, String> {
    FileName::new(text.as_bytes())
        .ok_or_else(|| "a file name has 1 to 255 bytes, none of them zero".to_owned())
}

/// As it stands in configurations: decimal, or hexadecimal with 0x.
fn number(text: &str) -> Result<u16, String> {
    let read = text.strip_prefix("0x").map_or_else(|| text.parse(), |digits| u16::from_str_radix(digits, 16));
    read.map_err(|_| format!("`{text}` is not a number of 0 to 65535 (0xffff)"))
}

fn boot_server(text: &str) -> Result<SocketAddrV4, String> {
    let only_address = || text.parse().map(|address| SocketAddrV4::new(address, DISCOVERY_PORT));
    text.parse()
        .or_else(|_| only_address())
        .map_err(|_| format!("`{text}` is not an address, or address:port"))
}

/// One address, or the first and the last of several.
fn addresses(text: &str) -> Result<RangeInclusive<Ipv4Addr>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last => Ok(first..=last),
        _ => Err(format!("`{text}` is not an address, or a range such as 10.0.0.100-10.0.0.163")),
    }
}

fn sha256(text: &str) -> Result<Hash, String> {
    let wrong = || format!("`{text}` is not 64 hexadecimal digits");
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let bytes: Vec<u8> = digits
        .ok_or_else(wrong)?
        .chunks_exact(2)
        .filter_map(|pair| match pair {
            [high, low] => Some(high << 4 | low),
            _ => None,
        })
        .collect();
    Hash::try_from(bytes).ok().filter(|_| text.len() == 64).ok_or_else(wrong)
}

/// What is asked for by `--clients`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Load {
    /// How many clients, from 1 on.
    pub(super) clients: u16,
    /// Their addresses, in turn; none: the interface's.
    pub(super) from: Option<RangeInclusive<Ipv4Addr>>,
    /// The time over which they start.
    pub(super) over: Duration,
    /// What the file's hash must be.
    pub(super) sha256: Option<Hash>,
}

impl Arguments {
    pub(super) fn read() -> Result<Self, clap::Error> {
        let arguments = Self::try_parse()?;
        if arguments.method == Protocol::Mtftp && arguments.file.is_some() && arguments.group.is_none() {
            let text = "--method mtftp needs --group where no boot server is asked";
            return Err(Self::command().error(ErrorKind::MissingRequiredArgument, text));
        }
        if let Some(group) = arguments.group
            && (GroupAddr::new(*group.ip()).is_none() || group.port() == 0)
        {
            let text = format!("{group} is not a multicast address with a port, such as 239.255.7.1:3001");
            return Err(Self::command().error(ErrorKind::ValueValidation, text));
        }
        Ok(arguments)
    }

    /// What a boot server must be asked first, by whoever has this address, Ethernet address and number; `None` if the
    /// command line says all.
    pub(super) fn question(
        &self,
        (address, mac, uuid): (Ipv4Addr, Mac, Option<Uuid>),
        xid: u32,
    ) -> Option<Question> {
        let server_type = ServerType(self.server_type?);
        Some(Question {
            boot_item: BootItem { server_type, layer: Layer(self.layer) },
            servers: self.boot_server.clone(),
            address,
            mac,
            uuid,
            architecture: self.arch,
            xid,
            understands_wait: !self.strict,
        })
    }

    /// Where the file is, as far as the command line says.
    pub(super) fn place(&self) -> Option<Found> {
        let (file, server) = (self.file.clone()?, self.server?);
        let tags = self.group.and_then(|group| {
            Some(MulticastTags {
                group: GroupAddr::new(*group.ip())?,
                client_port: group.port(),
                server_port: self.server_port,
                delay_seconds: self.delay_s,
            })
        });
        Some(Found { boot_server: server, file_server: server, file, multicast: tags })
    }

    pub(super) fn wanted(&self, found: &Found) -> Wanted {
        let method = match (self.method, found.multicast) {
            (Protocol::Mtftp, Some(tags)) => Method::PxeMtftp(tags),
            // Without tags there is no PXE-MTFTP: what the boot server answers is all that a client has.
            (Protocol::Tftp | Protocol::Mtftp, _) => Method::Plain,
            (Protocol::Rfc2090, _) => Method::Rfc2090,
        };
        Wanted {
            port: self.port,
            may_fall_back: !self.no_fall_back,
            block_size: if self.strict { BLOCK_SIZE_DEFAULT } else { self.blksize },
            window_size: self.windowsize,
            rollover: self.rollover.and_then(Rollover::from_value),
            patience: Duration::from_secs(self.patience_s.into()),
            tries: self.tries,
            strict: self.strict,
            ..Wanted::new(found.file_server, found.file.clone(), method)
        }
    }

    /// `None` if it is one client that puts the file somewhere.
    pub(super) fn load(&self) -> Option<Load> {
        Some(Load {
            clients: self.clients?,
            from: self.from.clone(),
            over: Duration::from_secs(self.over.into()),
            sha256: self.sha256,
        })
    }

    /// Our address on the interface, if it is said.
    pub(super) fn own_address(&self) -> Option<Ipv4Addr> {
        self.from.as_ref().map(|from| *from.start()).or(self.address)
    }

    /// `None` is standard output.
    pub(super) fn output(&self, file: &FileName) -> Option<PathBuf> {
        match &self.output {
            Some(path) if path.as_os_str() == "-" => None,
            Some(path) => Some(path.clone()),
            None => {
                let name = file.to_string();
                let last = name.rsplit('/').find(|part| !matches!(*part, "" | "." | ".."));
                Some(PathBuf::from(last.unwrap_or("boot-file")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Arguments {
        Arguments::try_parse_from(line.split(' ')).unwrap()
    }

    fn output(line: &str) -> Option<PathBuf> {
        let arguments = parse(line);
        arguments.output(&arguments.file.clone().unwrap())
    }

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
        let arguments = parse("mtftp-get --server 10.0.0.9 a/b");
        let (server, file) = (Ipv4Addr::new(10, 0, 0, 9), FileName::new(b"a/b").unwrap());
        let wanted = arguments.wanted(&arguments.place().unwrap());
        assert_eq!(wanted, Wanted::new(server, file, Method::Rfc2090));
        let asking = parse("mtftp-get --type 0x8002 --boot-server 10.0.0.11 --boot-server 10.0.0.12:99");
        let question = asking.question((server, Mac([1; 6]), None), 3).unwrap();
        assert_eq!(question.boot_item.server_type, ServerType(0x8002));
        let servers: Vec<String> = question.servers.iter().map(ToString::to_string).collect();
        assert_eq!(
            (servers, asking.place()),
            (vec!["10.0.0.11:4011".to_owned(), "10.0.0.12:99".to_owned()], None)
        );
        for wrong in [
            "mtftp-get",
            "mtftp-get a",
            "mtftp-get --server 10.0.0.9",
            "mtftp-get --type 1 a",
            "mtftp-get --type x",
        ] {
            assert!(Arguments::try_parse_from(wrong.split(' ')).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_load_says_who_fetches_from_where() {
        let line =
            "mtftp-get --server 10.0.0.9 --clients 3 --interface e --from 10.0.0.1-10.0.0.2 --over 2 a";
        let (first, last) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let load = Load { clients: 3, from: Some(first..=last), over: Duration::from_secs(2), sha256: None };
        let arguments = parse(line);
        assert_eq!((arguments.load(), arguments.own_address()), (Some(load), Some(first)));
        assert_eq!(parse("mtftp-get --server 10.0.0.9 a").load(), None);
        for more in [
            "--clients 0",
            "--clients 4097",
            "--over 2",
            "--clients 3 -o x",
            "--clients 3 --from 10.0.0.1",
            "--clients 3 --interface e --from 10.0.0.2-10.0.0.1",
            "--clients 3 --interface e --from 10.0.0.1 --address 10.0.0.1",
            "--clients 3 --sha256 00",
        ] {
            let line = format!("mtftp-get --server 10.0.0.9 {more} a");
            assert!(Arguments::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
        assert_eq!(sha256(&"0aF1".repeat(16)), Ok([0x0a, 0xf1].repeat(16).try_into().unwrap()));
        for wrong in ["0".repeat(63), "0".repeat(65), "0g".repeat(32), "é".repeat(32)] {
            assert!(sha256(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_output_never_leaves_the_directory_by_itself() {
        for (name, path) in
            [("a/b", "b"), ("../../etc/x", "x"), ("a/..", "a"), ("..", "boot-file"), ("/", "boot-file")]
        {
            let output = output(&format!("mtftp-get --server 10.0.0.9 {name}"));
            assert_eq!(output, Some(PathBuf::from(path)), "{name}");
        }
        assert_eq!(output("mtftp-get --server 10.0.0.9 -o - a"), None);
        assert_eq!(output("mtftp-get --server 10.0.0.9 -o x/y a"), Some(PathBuf::from("x/y")));
    }
}
