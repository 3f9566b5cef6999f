//! Every datagram of a lab, as it passed the bridge, in the order in which it did.
#![expect(clippy::disallowed_methods, reason = "packets on real cables pass in real time")]

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::{Host, eventually};

/// Every protocol (`ETH_P_ALL`, packet(7)).
const ALL_PROTOCOLS: u16 = 3;
/// Kernel buffer of the tap, in bytes: a busy machine must not make it blind.
const BUFFER_BYTES: usize = 64 << 20;
/// How soon a capture that is dropped ends.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// One UDP datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// When it was seen, since the capture began.
    pub at: Duration,
    /// Who sent it.
    pub from: SocketAddrV4,
    /// To whom: a host or a group.
    pub to: SocketAddrV4,
    /// What it carries.
    pub bytes: Vec<u8>,
}

/// A capture under way; dropping it ends it.
#[derive(Debug)]
pub struct Capture {
    packets: Arc<Mutex<Vec<Packet>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Capture {
    /// Records what comes by the cable of `tap`, which hears everything, and what each of `hosts` says to itself: see
    /// `Lab::capture`.
    ///
    /// # Panics
    /// If the kernel gives no packet socket.
    pub(crate) fn start(tap: &Host, hosts: &[Host]) -> Self {
        let cable = open(tap);
        cable.set_read_timeout(Some(LOOK_AGAIN)).expect("a time-out can be set");
        let inside: Vec<Socket> = hosts.iter().map(open).collect();
        inside.iter().for_each(|socket| socket.set_nonblocking(true).expect("a socket need not block"));
        let (packets, ended) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let recorder =
            Recorder { packets: Arc::clone(&packets), began: Instant::now(), buffer: vec![0; 1 << 16] };
        let thread = {
            let ended = Arc::clone(&ended);
            thread::spawn(move || recorder.run(&cable, &inside, &ended))
        };
        Self { packets, ended, thread: Some(thread) }
    }

    /// What was seen so far.
    #[must_use]
    pub fn packets(&self) -> Vec<Packet> {
        self.packets.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many datagrams were seen so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.packets.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether none was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits for a datagram behind the first `skip` ones of which `probe` makes something.
    ///
    /// # Panics
    /// If none comes.
    #[track_caller]
    pub fn until<T>(&self, what: &str, skip: usize, mut probe: impl FnMut(&Packet) -> Option<T>) -> T {
        eventually(what, || {
            let packets = self.packets.lock().unwrap_or_else(PoisonError::into_inner);
            packets.iter().skip(skip).find_map(&mut probe)
        })
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn open(host: &Host) -> Socket {
    let opened = host.enter(|| {
        let protocol = Protocol::from(i32::from(ALL_PROTOCOLS.to_be()));
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol))?;
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES)?;
        std::io::Result::Ok(socket)
    });
    assert!(opened.is_ok(), "a packet socket: {opened:?}");
    opened.expect("just looked at")
}

struct Recorder {
    packets: Arc<Mutex<Vec<Packet>>>,
    began: Instant,
    buffer: Vec<u8>,
}

impl Recorder {
    /// What a host said to itself comes before what it then said to others: both are read when the latter is there. That
    /// makes the order of what follows from what right; of things that have nothing to do with each other it may be wrong
    /// by as long as this thread has not run.
    fn run(mut self, cable: &Socket, inside: &[Socket], ended: &AtomicBool) {
        while !ended.load(Ordering::Relaxed) {
            let outside = match self.next(cable) {
                Ok(outside) => outside,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
                // The interface goes down with its namespace.
                Err(_) => return,
            };
            for socket in inside {
                while let Ok(packet) = self.next(socket) {
                    // The cable has the rest.
                    self.keep(packet.filter(|packet| packet.from.ip() == packet.to.ip()));
                }
            }
            self.keep(outside);
        }
    }

    fn keep(&self, packet: Option<Packet>) {
        self.packets.lock().unwrap_or_else(PoisonError::into_inner).extend(packet);
    }

    /// The next frame; `None` if it is no UDP datagram.
    fn next(&mut self, mut socket: &Socket) -> std::io::Result<Option<Packet>> {
        let len = socket.read(&mut self.buffer)?;
        let at = self.began.elapsed();
        let datagram = self.buffer.get(..len).and_then(udp);
        Ok(datagram.map(|(from, to, bytes)| Packet { at, from, to, bytes: bytes.to_vec() }))
    }
}

/// The UDP datagram in an Ethernet frame; parts of larger ones are not looked at.
fn udp(frame: &[u8]) -> Option<(SocketAddrV4, SocketAddrV4, &[u8])> {
    let word = |at: usize| Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?));
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(frame.get(at..at + 4)?).ok()?));
    let header = usize::from(frame.get(14)? & 0xf) * 4;
    // IPv4; UDP; neither an offset nor more to come.
    if word(12)? != 0x0800 || *frame.get(23)? != 17 || word(20)? & 0x3fff != 0 {
        return None;
    }
    let at = 14 + header;
    let from = SocketAddrV4::new(address(26)?, word(at)?);
    let to = SocketAddrV4::new(address(30)?, word(at + 2)?);
    let len = usize::from(word(at + 4)?);
    Some((from, to, frame.get(at + 8..at + len)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as it stands on the wire: 10.77.0.1:5000 to 239.1.2.3:6000, three bytes, and padding.
    fn frame() -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0, 0x45, 0, 0, 31, 0, 0, 0x40, 0, 1, 17, 0, 0, 10, 77, 0, 1, 239, 1, 2, 3]);
        frame.extend([0x13, 0x88, 0x17, 0x70, 0, 11, 0, 0, b'a', b'b', b'c']);
        frame.resize(60, 0);
        frame
    }

    #[test]
    fn a_datagram_is_found_in_its_frame() {
        let (from, to) =
            (SocketAddrV4::new([10, 77, 0, 1].into(), 5000), SocketAddrV4::new([239, 1, 2, 3].into(), 6000));
        assert_eq!(udp(&frame()), Some((from, to, b"abc".as_slice())));
        for (at, byte) in [(12, 0x86), (23, 6), (20, 0x20)] {
            let mut other = frame();
            other[at] = byte;
            assert_eq!(udp(&other), None, "byte {at}");
        }
        assert_eq!(udp(&frame()[..40]), None);
    }
}
