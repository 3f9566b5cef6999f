//! Figures of plain TFTP: many transfers at once, and what a forged request draws; part of `tests/bench`.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sim::boot_net::{counter, pattern, start};
use sim::daemon::Kind;
use sim::lab::{Host, Lab};
use sim::transfer_client::read_request;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::figures::resident;
use crate::line;

/// Transfers at once unless the command line says otherwise.
pub(crate) const TRANSFERS: u32 = 10_000;
/// Of one address (mtftp/src/limits.rs).
const PER_SOURCE: u32 = 8;
const BLOCK: usize = 1468;
/// Blocks of the file, the last one short; and of a window.
const BLOCKS: u16 = 40;
const WINDOW: u16 = 8;
/// Clients that are set off together: a bridge queues some thousand packets.
const TOGETHER: usize = 64;
/// Files that bench and daemon need open beside the transfers.
const SPARE_FILES: u64 = 1000;
/// A client repeats its ACK when nothing came for any for so long.
const IDLE: Duration = Duration::from_secs(1);
/// Without any progress for so long the bench gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// One transfer.
struct Client {
    socket: UdpSocket,
    server: SocketAddrV4,
    has: u16,
    unacked: u16,
    is_done: bool,
}

impl Client {
    fn ack(&mut self) {
        let [high, low] = self.has.to_be_bytes();
        self.unacked = 0;
        // What the kernel has no room for is as good as lost.
        let _ = self.socket.send_to(&[0, 4, high, low], self.server);
    }

    /// Asks, and waits for the OACK.
    fn wait_for_options(&mut self) {
        let mut buffer = [0; 2048];
        loop {
            match self.socket.recv_from(&mut buffer) {
                Ok((len, SocketAddr::V4(from))) => {
                    assert_eq!(buffer.get(..2), Some([0, 6].as_slice()), "{:?}", buffer.get(..len));
                    self.server = from;
                    return;
                }
                // It was lost, or the OACK; the request again, to the port of requests.
                _ => self.ask(),
            }
        }
    }

    fn ask(&self) {
        let (size, window) = (BLOCK.to_string(), WINDOW.to_string());
        let options = [("blksize", size.as_str()), ("windowsize", window.as_str()), ("tsize", "0")];
        self.socket.send_to(&read_request(b"f", &options), self.server).expect("a request can be sent");
    }

    /// Takes what there is; whether the file went on.
    fn take(&mut self, file: &[u8]) -> bool {
        let (before, mut buffer) = (self.has, [0; 2048]);
        loop {
            match self.socket.recv_from(&mut buffer) {
                Ok((len, _)) => self.hear(buffer.get(..len).unwrap_or_default(), file),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return self.has > before,
                Err(_) => {}
            }
        }
    }

    fn hear(&mut self, bytes: &[u8], file: &[u8]) {
        if bytes.starts_with(&[0, 6]) && self.has == 0 {
            // The ACK of the options was lost.
            return self.ack();
        }
        let Some((&[0, 3, high, low], data)) = bytes.split_first_chunk() else { return };
        if self.is_done || u16::from_be_bytes([high, low]) != self.has + 1 {
            // Its place, as EDK2.
            return self.ack();
        }
        let at = usize::from(self.has) * BLOCK;
        assert_eq!(file.get(at..(at + BLOCK).min(file.len())), Some(data), "block {}", self.has + 1);
        self.has += 1;
        self.unacked += 1;
        self.is_done = data.len() < BLOCK;
        if self.is_done || self.unacked == WINDOW {
            self.ack();
        }
    }
}

/// Sockets on as many addresses as the limit of transfers for one address asks for.
fn clients(host: &Host, server: SocketAddrV4, count: u32) -> Vec<Client> {
    let socket = |number: u32| {
        let source = number / PER_SOURCE;
        let [.., third, fourth] = (source / 250 * 256 + source % 250 + 1).to_be_bytes();
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.bind(&SockAddr::from(SocketAddrV4::new(Ipv4Addr::new(10, 78, third, fourth), 0)))?;
        socket.set_read_timeout(Some(IDLE))?;
        std::io::Result::Ok(UdpSocket::from(socket))
    };
    host.enter(|| {
        let sockets = (0..count).map(|number| socket(number).expect("a socket"));
        let client = |socket| Client { socket, server, has: 0, unacked: 0, is_done: false };
        sockets.map(client).collect()
    })
}

/// So many files may be open from now on, here and in what is started from here.
pub(crate) fn open_files(wanted: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < wanted) {
        setrlimit(
            Resource::Nofile,
            Rlimit { current: Some(wanted), maximum: limit.maximum.map(|it| it.max(wanted)) },
        )
        .expect("root may open that many files");
    }
}

/// A file server, and so many clients that all have their OACK before the first block goes out.
pub(crate) fn transfers(count: u32) {
    println!("\n{count} plain transfers at once, {BLOCKS} blocks of {BLOCK} bytes in windows of {WINDOW}");
    open_files(u64::from(count) + SPARE_FILES);
    let mut lab = Lab::new();
    let file = pattern(usize::from(BLOCKS) * BLOCK - 100);
    lab.boot_file("f", &file);
    let (host, machines) = (lab.host("mtftp1", 21), lab.host("machines", 31));
    for (host, route) in [
        (&host, vec!["route", "add", "10.78.0.0/16", "via", "10.77.0.31"]),
        // All of that prefix is this host.
        (&machines, vec!["route", "add", "local", "10.78.0.0/16", "dev", "lo"]),
    ] {
        assert!(host.run(Path::new("ip"), &route).status.success(), "{route:?}");
    }
    let mtftpd = start(&lab, &host, Kind::Mtftpd, "mtftpd", "[log]\nlevel = \"error\"\n");
    let before = resident(&mtftpd);
    let mut clients = clients(&machines, SocketAddrV4::new(host.address(), 69), count);
    let began = Instant::now();
    for some in clients.chunks_mut(TOGETHER) {
        some.iter().for_each(Client::ask);
        some.iter_mut().for_each(Client::wait_for_options);
    }
    let opened = began.elapsed();
    let open = mtftpd.status()["transfers"].as_u64().unwrap_or(0);
    let after = resident(&mtftpd);
    line("open at once", &format!("{open} after {:.2} s", opened.as_secs_f64()), &count.to_string());
    let per_transfer = (after.saturating_sub(before)) * 1024 / u64::from(count.max(1));
    line(
        "resident: before, with all open, for each transfer",
        &format!("{before} KiB, {after} KiB, {per_transfer} bytes"),
        "<= 8 KiB for each + 16 MiB",
    );
    let began = Instant::now();
    complete(&mut clients, &file);
    let spent = began.elapsed().as_secs_f64();
    let done = clients.iter().filter(|client| client.is_done).count();
    let megabytes = f64::from(count) * f64::from(BLOCKS) * 1468.0 / 1e6;
    line("clients with the whole file, every byte", &done.to_string(), &count.to_string());
    line("time, together", &format!("{spent:.2} s, {:.0} MB/s", megabytes / spent), "-");
    line(
        "sent again by the timer",
        &counter(&mtftpd, "transfer.resend").to_string(),
        "0 while its socket holds all ACKs",
    );
    line("sent again for repeated ACKs", &counter(&mtftpd, "transfer.window_again").to_string(), "few");
    let left = mtftpd.status()["transfers"].as_u64().unwrap_or(0);
    let complete = counter(&mtftpd, "tftp.complete");
    line(
        "complete, and left over, as the server counts",
        &format!("{complete}, {left}"),
        &format!("{count}, 0; fewer, if last ACKs are under way"),
    );
    line("resident after it", &format!("{} KiB", resident(&mtftpd)), "-");
}

/// All clients take their files, side by side.
fn complete(clients: &mut [Client], file: &[u8]) {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).expect("an epoll");
    for (number, client) in (0..).zip(clients.iter()) {
        client.socket.set_nonblocking(true).expect("a socket can be non-blocking");
        epoll::add(&poll, &client.socket, epoll::EventData::new_u64(number), epoll::EventFlags::IN)
            .expect("a socket can be polled");
    }
    let mut events = Vec::with_capacity(1024);
    let (mut left, mut started) = (clients.len(), 0);
    let mut progress = Instant::now();
    while left > 0 && progress.elapsed() < PATIENCE {
        for client in clients.iter_mut().skip(started).take(TOGETHER) {
            client.ack();
        }
        started += TOGETHER;
        let wait = if started < clients.len() { Duration::ZERO } else { IDLE };
        let wait = Timespec::try_from(wait).expect("a short time");
        events.clear();
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&wait))
            .expect("sockets can be polled");
        if events.is_empty() && started >= clients.len() {
            clients.iter_mut().filter(|client| !client.is_done).for_each(Client::ack);
        }
        for event in &events {
            let number = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            let Some(client) = clients.get_mut(number) else { continue };
            // One that is done still answers: its last ACK may be lost.
            let was_done = client.is_done;
            if client.take(file) {
                progress = Instant::now();
            }
            left -= usize::from(client.is_done && !was_done);
        }
    }
}

/// Bytes out per byte in before anybody answers.
pub(crate) fn amplification() {
    println!("\nWhat one datagram draws before the first ACK: UDP bytes in, datagrams and bytes out");
    for drawn in sim::amplification::all() {
        let sim::amplification::Drawn { what, asked, packets, bytes, multicast, most, .. } = drawn;
        let float = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        let others = if multicast > 0 { format!(", {multicast} to the group") } else { String::new() };
        let measured =
            format!("{asked} in, {packets} x = {bytes} out: {:.1}{others}", float(bytes) / float(asked));
        line(what, &measured, &format!("<= {most}"));
    }
}
