//! The client's side: fetches one file, by multicast where it can and by plain TFTP where it cannot.
//!
//! ```text
//!             ┌─► mtftp: listen, open, receive, listen again … ─┐ nobody sends
//!  Fetch ─────┤                                                 ├──────────────► tftp: plain
//!             └─► tftp: request with `multicast` ─► stream ─────┘ what is sent is not heard
//! ```
//!
//! A [`Fetch`] is a machine like the servers' (see the contract in `driver`): the program `mtftp-get` drives it over
//! sockets, the simulator and the tests over a network of their own. It ends once, with [`Action::End`].

pub mod discovery;
mod image;
mod mtftp;
mod stream;
mod tftp;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use driver::{Deadline, Outbox, Time};
use wire::FileName;
use wire::pxe::MulticastTags;
use wire::tftp::{BLOCK_SIZE_UNFRAGMENTED, Mode, Options, Packet, Request, Rollover, block_count};

use self::mtftp::Mtftp;
use self::tftp::Tftp;

/// Where requests go.
pub const TFTP_PORT: u16 = 69;

/// By what protocol a file is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Plain TFTP: RFC 1350 with the options of RFC 2347–2349 and 7440.
    Plain,
    /// RFC 2090. A server that does not take the option sends the file by plain TFTP.
    Rfc2090,
    /// PXE-MTFTP with these tags of option 43.
    PxeMtftp(MulticastTags),
}

/// What to fetch, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The file server.
    pub server: Ipv4Addr,
    /// Its port for requests.
    pub port: u16,
    /// The file.
    pub file: FileName,
    /// The protocol to begin with.
    pub method: Method,
    /// Whether plain TFTP is tried when multicast does not work.
    pub may_fall_back: bool,
    /// The block size that is asked for, 8–65464 bytes; 512 does without the option.
    pub block_size: u16,
    /// The window that is asked for, 1–65535 blocks; 1 does without the option.
    pub window_size: u16,
    /// After 65,535 blocks of plain TFTP, whether the next is number 0 or 1; `None` does without the option.
    pub rollover: Option<Rollover>,
    /// How long to wait before a packet is repeated.
    pub patience: Duration,
    /// How often it is repeated before the server counts as dead.
    pub tries: u32,
    /// PXE-MTFTP exactly as Intel's client does it, with its intolerance: for testing servers.
    pub strict: bool,
}

impl Wanted {
    /// Plain TFTP from `server`, with the options that suit Ethernet.
    #[must_use]
    pub fn new(server: Ipv4Addr, file: FileName, method: Method) -> Self {
        Self {
            server,
            port: TFTP_PORT,
            file,
            method,
            may_fall_back: true,
            block_size: BLOCK_SIZE_UNFRAGMENTED,
            window_size: 16,
            rollover: None,
            patience: Duration::from_secs(1),
            tries: 5,
            strict: false,
        }
    }
}

/// Through which socket a datagram came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Our own address.
    Own,
    /// The multicast address that was joined.
    Group,
}

/// What the machine wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// From now on use a fresh socket on our own address, with this port; 0 lets the kernel choose one. The first action
    /// there is.
    Bind(u16),
    /// Hear this multicast address, on its port.
    Join(SocketAddrV4),
    /// No longer hear it.
    Leave,
    /// Send from our own socket.
    Send(SocketAddrV4, Vec<u8>),
    /// Bytes of the file, and where they belong. Each byte comes once, unless [`Action::Restart`] comes in between.
    Store(u64, Vec<u8>),
    /// What was stored is worth nothing: the file begins anew.
    Restart,
    /// It is over.
    End(Result<Source, Failure>),
}

/// How a file came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// By PXE-MTFTP.
    PxeMtftp,
    /// By RFC 2090.
    Rfc2090,
    /// By plain TFTP, as was asked for or because the server offers nothing else.
    Plain,
    /// By plain TFTP although it was to come by multicast.
    FallBack(Cause),
}

/// Why multicast did not work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The server took no part: it did not answer the open, or the option.
    NotOffered,
    /// It was offered, and nothing was heard on the address: a switch prunes it, or it is sent elsewhere.
    NotHeard,
    /// The server said ERROR.
    Refused,
    /// What came broke the rules.
    Protocol,
    /// It was heard, and then no more.
    Silence,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotOffered => "the server offers no multicast",
            Self::NotHeard => "nothing was heard on the multicast address",
            Self::Refused => "the server refused",
            Self::Protocol => "the server broke the protocol",
            Self::Silence => "the server fell silent",
        })
    }
}

/// Why there is no file. What was stored of it is worth nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Nobody answers, or no longer.
    Silence(Standing),
    /// [`Fetch::stop`]: the driver's time was over.
    TimeOver(Standing),
    /// The server said ERROR: code and text.
    Error(u16, String),
    /// What came broke the protocol.
    Protocol(&'static str),
    /// Multicast did not work, and plain TFTP was not allowed.
    NoMulticast(Cause),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silence(Standing { heard: None, .. }) => f.write_str("nobody answers"),
            Self::Silence(standing) => write!(f, "the server fell silent {standing}"),
            Self::TimeOver(standing) => write!(f, "the time was over {standing}"),
            Self::Error(code, text) => write!(f, "the server says ERROR {code}: {text}"),
            Self::Protocol(what) => write!(f, "the server broke the protocol: {what}"),
            Self::NoMulticast(cause) => write!(f, "no multicast: {cause}"),
        }
    }
}

/// How far an attempt had come when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// Blocks of the file that were there.
    pub blocks: u64,
    /// Of how many, if that is known.
    pub of: Option<u64>,
    /// What was heard of the server last.
    pub heard: Option<Heard>,
}

/// The last packet of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// From where it came.
    pub from: SocketAddrV4,
    /// Through which socket.
    pub door: Door,
    /// How long before.
    pub ago: Duration,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(Heard { from, door, ago }) = self.heard else {
            return f.write_str("before anybody answered");
        };
        write!(f, "after {}", self.blocks)?;
        if let Some(of) = self.of {
            write!(f, " of {of}")?;
        }
        let by = match door {
            Door::Own => "unicast",
            Door::Group => "multicast",
        };
        write!(f, " blocks; {from} was heard last, by {by}, {:.1} s before", ago.as_secs_f64())
    }
}

/// What was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Bytes of the file that are there.
    pub bytes: u64,
    /// The file's size, when it is known.
    pub size: Option<u64>,
    /// Blocks that came by multicast.
    pub multicast_blocks: u64,
    /// Blocks that came by unicast.
    pub unicast_blocks: u64,
    /// Of all these, those that were there already.
    pub needless_blocks: u64,
    /// ACKs sent.
    pub acks: u64,
    /// Packets sent again because no answer came: requests, opens and ACKs.
    pub asked_again: u64,
    /// Times that it was master.
    pub master: u64,
}

/// A request for the file.
fn request(file: &FileName, options: Options) -> Request {
    Request { name: file.as_bytes().to_vec(), mode: Mode::Octet, options }
}

/// What the attempts share.
#[derive(Debug, Default)]
struct Context {
    actions: Outbox<Action>,
    counts: Counts,
    /// Blocks of the file that are there.
    blocks: u64,
    /// Their size, once that is settled, in bytes.
    block_size: Option<u16>,
}

impl Context {
    fn send(&mut self, to: SocketAddrV4, packet: &Packet<'_>) {
        self.actions.push(Action::Send(to, packet.encode()));
    }

    fn ack(&mut self, to: SocketAddrV4, block: u16) {
        self.counts.acks += 1;
        self.send(to, &Packet::Ack(block));
    }

    fn store(&mut self, offset: u64, bytes: &[u8]) {
        self.blocks += 1;
        self.counts.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.actions.push(Action::Store(offset, bytes.to_vec()));
    }

    fn heard(&mut self, door: Door) {
        match door {
            Door::Own => self.counts.unicast_blocks += 1,
            Door::Group => self.counts.multicast_blocks += 1,
        }
    }
}

/// What became of an attempt after an input.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// It goes on.
    Going,
    /// The whole file is there.
    Whole(Source),
    /// Multicast does not work.
    NoMulticast(Cause),
    /// Nobody answers, however often it is asked.
    Silence,
    /// There is no file.
    Failed(Failure),
}

#[derive(Debug)]
enum Attempt {
    Mtftp(Box<Mtftp>),
    Tftp(Box<Tftp>),
    Over,
}

/// The machine.
#[derive(Debug)]
pub struct Fetch {
    wanted: Wanted,
    attempt: Attempt,
    context: Context,
    /// Why this attempt is not by multicast.
    fell_back: Option<Cause>,
    /// What the server said last: from where, through which socket, and when.
    heard: Option<(SocketAddrV4, Door, Time)>,
}

impl Fetch {
    /// Begins.
    #[must_use]
    pub fn new(wanted: Wanted, now: Time) -> Self {
        let mut context = Context::default();
        let attempt = match wanted.method {
            Method::PxeMtftp(tags) => Attempt::Mtftp(Box::new(Mtftp::new(&wanted, tags, now, &mut context))),
            Method::Rfc2090 | Method::Plain => {
                let multicast = wanted.method == Method::Rfc2090;
                Attempt::Tftp(Box::new(Tftp::new(&wanted, multicast, now, &mut context)))
            }
        };
        Self { wanted, attempt, context, fell_back: None, heard: None }
    }

    /// Takes the oldest action. The driver takes all of them after each input.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.context.actions.pop()
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.context.counts
    }

    /// Whether it is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.attempt, Attempt::Over)
    }

    /// When [`Fetch::on_timeout`] wants to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Deadline> {
        match &self.attempt {
            Attempt::Mtftp(mtftp) => Some(mtftp.next_deadline()),
            Attempt::Tftp(tftp) => Some(tftp.next_deadline()),
            Attempt::Over => None,
        }
    }

    /// A datagram came. What is not from the server, or not TFTP, is ignored.
    pub fn on_datagram(&mut self, now: Time, door: Door, from: SocketAddrV4, bytes: &[u8]) {
        if *from.ip() != self.wanted.server {
            return;
        }
        let Ok(packet) = Packet::decode(bytes) else { return };
        self.heard = Some((from, door, now));
        let step = match &mut self.attempt {
            Attempt::Mtftp(mtftp) => mtftp.on_packet(now, door, from, &packet, &mut self.context),
            Attempt::Tftp(tftp) => tftp.on_packet(now, door, from, &packet, &mut self.context),
            Attempt::Over => Step::Going,
        };
        self.after(now, step);
    }

    /// Time has passed. Calling it early, late or twice is harmless.
    pub fn on_timeout(&mut self, now: Time) {
        let step = match &mut self.attempt {
            Attempt::Mtftp(mtftp) => mtftp.on_timeout(now, &mut self.context),
            Attempt::Tftp(tftp) => tftp.on_timeout(now, &mut self.context),
            Attempt::Over => Step::Going,
        };
        self.after(now, step);
    }

    /// It must not take longer: ends it, and tells the server where that waits for us. Harmless when it is over.
    pub fn stop(&mut self, now: Time) {
        match &self.attempt {
            Attempt::Mtftp(mtftp) => mtftp.stop(&mut self.context),
            Attempt::Tftp(tftp) => tftp.stop(&mut self.context),
            Attempt::Over => return,
        }
        let standing = self.standing(now);
        self.end(Err(Failure::TimeOver(standing)));
    }

    fn standing(&self, now: Time) -> Standing {
        let Context { counts, blocks, block_size, .. } = &self.context;
        let of = counts.size.zip(*block_size).map(|(size, block_size)| block_count(size, block_size));
        let heard = self.heard.map(|(from, door, at)| Heard { from, door, ago: now.since(at) });
        Standing { blocks: *blocks, of, heard }
    }

    fn after(&mut self, now: Time, step: Step) {
        match step {
            Step::Going => {}
            Step::Whole(Source::Plain) => {
                self.end(Ok(self.fell_back.map_or(Source::Plain, Source::FallBack)));
            }
            Step::Whole(source) => self.end(Ok(source)),
            Step::Silence => {
                let standing = self.standing(now);
                self.end(Err(Failure::Silence(standing)));
            }
            Step::Failed(failure) => self.end(Err(failure)),
            Step::NoMulticast(cause) if self.wanted.may_fall_back => self.fall_back(now, cause),
            Step::NoMulticast(cause) => self.end(Err(Failure::NoMulticast(cause))),
        }
    }

    fn fall_back(&mut self, now: Time, cause: Cause) {
        self.fell_back = Some(cause);
        self.context.actions.push(Action::Leave);
        self.context.actions.push(Action::Restart);
        self.context.counts.bytes = 0;
        self.context.blocks = 0;
        self.attempt = Attempt::Tftp(Box::new(Tftp::new(&self.wanted, false, now, &mut self.context)));
    }

    fn end(&mut self, result: Result<Source, Failure>) {
        self.attempt = Attempt::Over;
        self.context.actions.push(Action::End(result));
    }
}

#[cfg(test)]
mod tests {
    use wire::tftp::MulticastAnswer;

    use super::*;

    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
    const STREAM: SocketAddrV4 = SocketAddrV4::new(SERVER, 50_000);

    fn at(millis: u64) -> Time {
        Time::ZERO + Duration::from_millis(millis)
    }

    fn begin(method: Method) -> Fetch {
        let wanted =
            Wanted { may_fall_back: false, ..Wanted::new(SERVER, FileName::new(b"f").unwrap(), method) };
        Fetch::new(wanted, at(0))
    }

    fn actions(fetch: &mut Fetch) -> Vec<Action> {
        std::iter::from_fn(|| fetch.poll_action()).collect()
    }

    /// The OACK and two blocks of 8 bytes; the file has 100.
    fn hear(fetch: &mut Fetch) {
        let group = SocketAddrV4::new(Ipv4Addr::new(239, 255, 7, 1), 1758);
        let multicast = MulticastAnswer { group: Some(group), is_master: false };
        let is_multicast = matches!(fetch.wanted.method, Method::Rfc2090);
        let options = Options {
            block_size: Some(8),
            transfer_size: Some(100),
            multicast: is_multicast.then(|| multicast.to_string()),
            ..Options::default()
        };
        let door = if is_multicast { Door::Group } else { Door::Own };
        fetch.on_datagram(at(100), Door::Own, STREAM, &Packet::OptionAck(options).encode());
        for block in 1..=2 {
            fetch.on_datagram(at(200), door, STREAM, &Packet::Data { block, bytes: &[0; 8] }.encode());
        }
    }

    #[test]
    fn who_is_stopped_says_how_far_it_was_and_leaves() {
        for (method, by) in [(Method::Rfc2090, "multicast"), (Method::Plain, "unicast")] {
            let mut fetch = begin(method);
            hear(&mut fetch);
            actions(&mut fetch);
            fetch.stop(at(2700));
            let said = actions(&mut fetch);
            let [Action::Send(STREAM, bytes), Action::End(Err(failure))] = said.as_slice() else {
                unreachable!("{said:?}")
            };
            assert!(matches!(Packet::decode(bytes), Ok(Packet::Error { .. })));
            let said = format!(
                "the time was over after 2 of 13 blocks; 10.0.0.9:50000 was heard last, by {by}, 2.5 s before"
            );
            assert_eq!(failure.to_string(), said);
            fetch.stop(at(2800));
            assert_eq!((actions(&mut fetch), fetch.is_over()), (vec![], true), "once is enough");
        }
        let mut fetch = begin(Method::Rfc2090);
        actions(&mut fetch);
        fetch.stop(at(5));
        let said = actions(&mut fetch);
        let [Action::End(Err(failure))] = said.as_slice() else { unreachable!("{said:?}") };
        assert_eq!(failure.to_string(), "the time was over before anybody answered");
    }

    #[test]
    fn a_server_that_falls_silent_is_not_one_that_never_was() {
        let silence = |heard: bool| {
            let mut fetch = begin(Method::Plain);
            if heard {
                hear(&mut fetch);
            }
            while let Some(due) = fetch.next_deadline() {
                fetch.on_timeout(due.at);
            }
            match actions(&mut fetch).pop() {
                Some(Action::End(Err(failure))) => failure.to_string(),
                other => unreachable!("{other:?}"),
            }
        };
        assert_eq!(silence(false), "nobody answers");
        let said = "the server fell silent after 2 of 13 blocks; 10.0.0.9:50000 was heard last, by unicast, 6.0 s before";
        assert_eq!(silence(true), said);
    }
}
