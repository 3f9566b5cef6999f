//! The command line.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum};
use wire::pxe::MulticastTags;
use wire::tftp::{BLOCK_SIZE_DEFAULT, BLOCK_SIZE_UNFRAGMENTED, Rollover};
use wire::{FileName, GroupAddr};

use crate::client::{Method, TFTP_PORT, Wanted};

const EXIT_CODES: &str = "\
Exit codes:
  0  the file is there
  1  this host failed: a socket, the disk
  2  the command line is wrong
  3  nobody answered, or the time was over
  4  the server said ERROR
  5  the server broke the protocol
  6  it cannot be had by multicast, and --no-fall-back was given";

/// By what protocol to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Protocol {
    /// RFC 2090 where the server offers it, else plain TFTP
    Rfc2090,
    /// PXE-MTFTP, with --group and --server-port
    Mtftp,
    /// plain TFTP
    Tftp,
}

/// Fetches a boot file as a PXE client does: by multicast where it can, by plain TFTP where it cannot.
#[derive(Debug, Parser)]
#[command(name = "mtftp-get", version, after_help = EXIT_CODES)]
pub(super) struct Arguments {
    /// The file, as the server has it
    #[arg(value_name = "FILE", value_parser = file_name)]
    pub(super) file: FileName,
    /// The file server
    #[arg(long, value_name = "ADDRESS")]
    pub(super) server: Ipv4Addr,
    /// Where to put it: a file, or - for standard output [default: the last part of FILE, here]
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// How to begin
    #[arg(long, value_enum, default_value = "rfc2090")]
    method: Protocol,
    /// PXE-MTFTP: the multicast address, and the port to listen on
    #[arg(long, value_name = "ADDRESS:PORT", required_if_eq("method", "mtftp"))]
    group: Option<SocketAddrV4>,
    /// PXE-MTFTP: the port to which opens go
    #[arg(long, value_name = "PORT", default_value_t = 1760)]
    server_port: u16,
    /// PXE-MTFTP: seconds to listen before an open, and to wait for a block
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    delay_s: u8,
    /// PXE-MTFTP exactly as Intel's client does it, with its intolerance
    #[arg(long)]
    strict: bool,
    /// The UDP port of requests
    #[arg(long, value_name = "PORT", default_value_t = TFTP_PORT)]
    port: u16,
    /// Bytes of a block to ask for; 512 does without the option
    #[arg(long, value_name = "BYTES", default_value_t = BLOCK_SIZE_UNFRAGMENTED, value_parser = clap::value_parser!(u16).range(8..=65464))]
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
    /// Seconds that it may take in all
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub(super) timeout_s: u64,
    /// The network interface [default: the only one]
    #[arg(long, value_name = "NAME")]
    pub(super) interface: Option<String>,
    /// Our address on it [default: its only one]
    #[arg(long, value_name = "ADDRESS", requires = "interface")]
    pub(super) address: Option<Ipv4Addr>,
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

impl Arguments {
    pub(super) fn read() -> Result<Self, clap::Error> {
        let arguments = Self::try_parse()?;
        if let Some(group) = arguments.group
            && (GroupAddr::new(*group.ip()).is_none() || group.port() == 0)
        {
            let text = format!("{group} is not a multicast address with a port, such as 239.255.7.1:3001");
            return Err(Self::command().error(ErrorKind::ValueValidation, text));
        }
        Ok(arguments)
    }

    pub(super) fn wanted(&self) -> Wanted {
        let tags = self.group.and_then(|group| {
            Some(MulticastTags {
                group: GroupAddr::new(*group.ip())?,
                client_port: group.port(),
                server_port: self.server_port,
                delay_seconds: self.delay_s,
            })
        });
        let method = match (self.method, tags) {
            (Protocol::Mtftp, Some(tags)) => Method::PxeMtftp(tags),
            (Protocol::Tftp, _) => Method::Plain,
            (Protocol::Rfc2090 | Protocol::Mtftp, _) => Method::Rfc2090,
        };
        Wanted {
            port: self.port,
            may_fall_back: !self.no_fall_back,
            block_size: self.blksize.max(8).min(if self.strict { BLOCK_SIZE_DEFAULT } else { u16::MAX }),
            window_size: self.windowsize,
            rollover: self.rollover.and_then(Rollover::from_value),
            patience: Duration::from_secs(self.patience_s.into()),
            tries: self.tries,
            strict: self.strict,
            ..Wanted::new(self.server, self.file.clone(), method)
        }
    }

    /// `None` is standard output.
    pub(super) fn output(&self) -> Option<PathBuf> {
        match &self.output {
            Some(path) if path.as_os_str() == "-" => None,
            Some(path) => Some(path.clone()),
            None => {
                let name = self.file.to_string();
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

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
        let wanted = parse("mtftp-get --server 10.0.0.9 a/b").wanted();
        let server = Ipv4Addr::new(10, 0, 0, 9);
        assert_eq!(wanted, Wanted::new(server, FileName::new(b"a/b").unwrap(), Method::Rfc2090));
        assert!(
            Arguments::try_parse_from(["mtftp-get", "--server", "10.0.0.9", "--method", "mtftp", "a"])
                .is_err()
        );
    }

    #[test]
    fn the_output_never_leaves_the_directory_by_itself() {
        for (name, path) in
            [("a/b", "b"), ("../../etc/x", "x"), ("a/..", "a"), ("..", "boot-file"), ("/", "boot-file")]
        {
            let output = parse(&format!("mtftp-get --server 10.0.0.9 {name}")).output();
            assert_eq!(output, Some(PathBuf::from(path)), "{name}");
        }
        assert_eq!(parse("mtftp-get --server 10.0.0.9 -o - a").output(), None);
        assert_eq!(parse("mtftp-get --server 10.0.0.9 -o x/y a").output(), Some(PathBuf::from("x/y")));
    }
}
