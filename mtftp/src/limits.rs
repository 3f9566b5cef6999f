//! Every bound of the core and every span it keeps, with the reason.

use std::time::Duration;

use peers::limits::OWNED_MAX;

/// The store is told this often that the server lives: how old the claims of others are that it shows.
pub const ALIVE_INTERVAL: Duration = Duration::from_secs(60);

// --- references ---------------------------------------------------------------------------------------------

/// References kept in all. 4096 addresses are far more than one segment carries; a row takes under 1 KiB.
pub const REFERENCES_MAX: usize = 4096;
/// References of one BINLD: `reliability.md`, 1,024 per owner.
pub const REFERENCES_PER_SENDER_MAX: usize = 1024;
/// Highest (boot epoch, serial) pairs remembered in all, those of references included.
pub const KNOWN_MAX: usize = 2 * REFERENCES_MAX;
/// How long a pair without a reference is remembered: longer than any datagram is delayed (G14).
pub const KNOWN_KEEP: Duration = Duration::from_secs(600);
/// How long a released dynamic address rests: longer than any MTFTP client waits to open again (G15).
pub const REST: Duration = Duration::from_secs(300);
/// How long the pinned address rests (P3): its waiters ask every 5 to 30 s.
pub const REST_PINNED: Duration = Duration::from_secs(10);
/// After a restart with references nothing is released for this long, unless configured otherwise (G11).
pub const GRACE: Duration = Duration::from_secs(90);
/// Longest grace that may be configured: an address must not stay taken for a working day.
pub const GRACE_MAX: Duration = Duration::from_secs(3600);
/// A reference that its BINLD has not renewed for this long is stale (G12): five of its renewals, one every 45 s, are
/// missing. It is shown and told, and may be deleted on behalf of its BINLD if that is dead. Longer than a BINLD hands an
/// address out after its last ACK, 180 s, and a client may come after that, 120 s, together.
pub const LEASE: Duration = Duration::from_secs(300);
/// An address on which a session was opened this recently is in use (Y4).
pub const IN_USE: Duration = Duration::from_secs(300);
/// A session that keeps a deleted address from being released is cut after this long (Y4: 120 s).
pub const CLOSING_MAX: Duration = Duration::from_secs(120);
/// Configures for plain TFTP that wait for the file to be looked up.
pub const PROBES_MAX: usize = 256;

// --- rates --------------------------------------------------------------------------------------------------

/// Requests per second of one source address (`security.md` 4.5).
pub const REQUESTS_PER_SECOND: u32 = 20;
/// Requests of one source address at once.
pub const REQUESTS_BURST: u32 = 40;
/// Control messages per second of one source: a BINLD asks for all files of its catalogue at start, every 2 ms for one, and
/// renews every claim of its own once a minute.
pub const CONTROLS_PER_SECOND: u32 = 500;
/// Control messages of one source at once: all the addresses that it may have here, cleared together, and their files.
pub const CONTROLS_BURST: u32 = 4096;
/// What one source says as a member of the domain, per second and at once: a partition that heals brings hundreds of
/// records together. As many as `binld` takes.
pub const MEMBERS_PER_SECOND: u32 = 500;
/// Queries per second of one source that may be echoed (`security.md` 4.5).
pub const QUERIES_PER_SECOND: u32 = 50;
/// Queries of one source at once.
pub const QUERIES_BURST: u32 = 100;
/// Sources whose rate is kept; beyond them strangers are refused until one has been idle.
pub const SOURCES_MAX: usize = 16_384;

// --- the domain ---------------------------------------------------------------------------------------------

/// Life of the record of an address's references, in seconds, as of a claim's: refreshed every 30 s.
pub const REFERENCE_LIVES: u16 = 120;
/// Records of ours that the domain is told: with the member record what others keep of one owner.
pub const PUBLISHED_MAX: usize = OWNED_MAX - 1;

// --- multicast sessions -------------------------------------------------------------------------------------

/// Openers of one session.
pub const OPENERS_MAX: usize = 4096;
/// Openers from one address in one session: a machine that starts anew has a new port.
pub const OPENERS_PER_SOURCE_MAX: usize = 8;
/// Sessions at once: each holds an open file.
pub const SESSIONS_MAX: usize = 256;
/// Streams of RFC 2090 at once unless configured otherwise: each has a socket, whether it is in use or not.
pub const STREAMS: u16 = 16;
/// The most that may be configured.
pub const STREAMS_MAX: u16 = 256;
/// Blocks that go out on account of an open before anybody ACKs (`decisions.md` § Clients).
pub const BLOCKS_BEFORE_ACK: u32 = 3;
/// Longest silence while somebody waits: iPXE leaves after 250 ms.
pub const SILENCE_MAX: Duration = Duration::from_millis(100);
/// Shortest time to a resend; below it, a busy host's scheduling looks like loss. A copy too many does no harm, and each
/// loss that no ACK tells of costs everybody so long.
pub const RESEND_MIN: Duration = Duration::from_millis(5);
/// A master of RFC 2090 that was heard so recently is not passed over: a busy host may pause it as long.
pub const MASTER_PAUSE: Duration = Duration::from_millis(30);
/// Shortest time to a resend of what one lacks when all others have theirs: each such copy is one packet.
pub const REPAIR_RESEND_MIN: Duration = Duration::from_millis(2);
/// Blocks between two losses below which the second says that too many were out: buffers that are too small lose some of
/// every window.
pub const LOSS_APART: u16 = 64;
/// Blocks that a new master of RFC 2090 is judged by, and after which it is asked whether another one is faster.
pub const AUDITION_BLOCKS: u32 = 32;
/// Others that are tried in one session.
pub const AUDITIONS_MAX: u8 = 3;
/// A master that takes so many bytes a second is fast enough: half of a line of 1 Gbit/s.
pub const AUDITION_RATE: f64 = 60e6;
/// A master whose ACKs take so long, and four times as long as its quickest, may be slow itself.
pub const AUDITION_ROUND_TRIP: Duration = Duration::from_millis(1);
/// How long who was not heard before may take to answer before somebody else is asked, or it is asked again.
pub const ANSWER_FIRST: Duration = Duration::from_millis(20);
/// Blocks out to who sets the pace of a group: 32 of 1468 bytes at a round trip of 1 ms are 46 MB/s, and fit into any buffer
/// of a socket.
pub const GROUP_AHEAD_MAX: u16 = 32;
/// Who lacks no more of what was sent is not made master of RFC 2090: many openers fill such gaps together.
pub const FEW_BLOCKS: u32 = 64;
/// Repeated ACKs in a row of who does not set the pace that tell a gap.
pub const GAP_REPEATS: u8 = 3;
/// Of them at once: a software bridge queues some thousand packets, and copies each for every port.
pub const GROUP_TRAIN_MAX: u16 = 16;
/// A master silent for this long is passed over.
pub const MASTER_SILENCE: Duration = Duration::from_secs(1);
/// The rate of a client that sets the pace is taken over so long a time of waiting for it.
pub const PACE_SPAN: Duration = Duration::from_millis(500);
/// Bytes a second at which a pass goes on without a slow master, if its boot item names no rate: what boot items have by
/// default.
pub const OUTRUN_RATE: u32 = 500_000;
/// A session waits no longer than this for more clients, whatever a boot server says.
pub const START_WITHIN_MAX: Duration = Duration::from_secs(3600);
/// A session that hears no ACK and no open for this long stops.
pub const SESSION_SILENCE: Duration = Duration::from_secs(2);
/// A session of RFC 2090 that hears nobody for this long stops: its clients repeat themselves after up to 5 s (atftp), so
/// that this is two of their repeats.
pub const STREAM_SILENCE: Duration = Duration::from_secs(12);
/// A client of RFC 2090 that ACKs out of its turn is told so this often at most.
pub const TOLD_OFF_AGAIN: Duration = Duration::from_secs(1);
/// Unicast blocks, or OACKs that make it master, an opener may leave unanswered before it counts as gone.
pub const QUESTIONS_MAX: u8 = 3;
/// Openers of RFC 2090 that are asked, or sent what they lack, at a time.
pub const QUESTIONS_AT_ONCE: usize = 16;
/// Openers asked in one step, so that a step is short.
pub const QUESTIONS_PER_STEP: usize = 16;
/// Blocks after which a master hands the pace to the next opener that was heard. A software bridge queues some 500
/// packets for a port: with [`PACERS_MAX`] openers in turn none can fall that far behind.
pub const TURN_BLOCKS: u16 = 32;
/// A pass for clients in the manner of Intel's: time to a resend before the round trip is known.
pub const PASS_RESEND_FIRST: Duration = Duration::from_millis(500);
/// Shortest time to a resend of a pass; it trebles with each.
pub const PASS_RESEND_MIN: Duration = Duration::from_millis(50);
/// Resends of a block of a pass: Intel's client gives up when it hears one block three times over.
pub const PASS_RESENDS_MAX: u32 = 3;
/// How far an opener's first gap may be from what goes out for it to take a turn: twice what a bridge queues.
pub const TURN_REACH: u16 = 1024;
/// Openers that are heard during a pass. Each ACKs every block; the others are asked at its end.
pub const PACERS_MAX: usize = 8;
/// An opener heard this recently may be handed the pace: what went out meanwhile reached it.
pub const HEARD_LATELY: Duration = Duration::from_millis(500);
/// Resends after which a silent master no longer keeps the others from their blocks.
pub const MASTER_TRIES: u32 = 2;
/// How many turns as master an opener may leave unanswered.
pub const STRIKES_MAX: u8 = 2;
/// How long it is remembered who was too slow for a pass: several opens of a client, each a few seconds after the other.
pub const SLOW_KEEP: Duration = Duration::from_secs(30);
/// How long it is remembered who opened a session that ended (port 69 rule), and one ERROR repeated.
pub const TRACE_KEEP: Duration = Duration::from_secs(3);
/// How long a foreign query for the pinned address counts as a sign of a sender (P5): three announcements.
pub const FOREIGN_KEEP: Duration = Duration::from_secs(90);

// --- who was told an address, and fell back ------------------------------------------------------------------

/// Clients that were told an address, in all: as many as may fetch at once.
pub const TOLD_MAX: usize = TRANSFERS_MAX;
/// Addresses that one client was told: a machine loads a few files. The oldest goes.
pub const TOLD_PER_CLIENT_MAX: usize = 8;
/// How long it is remembered, from the answer or the open on: what a client falls back from is less than a few minutes old.
pub const TOLD_KEEP: Duration = Duration::from_secs(600);
/// An answer this soon after another one is the same: EDK2 asks for 10 s. No machine starts anew that fast.
pub const TOLD_AGAIN: Duration = Duration::from_secs(10);
/// Fall-backs that are shown; all are counted.
pub const FALL_BACKS_SHOWN: usize = 64;
/// A querier that was heard this recently is there: "other querier present", RFC 2236 § 8.5, rounded up.
pub const QUERIER_KEEP: Duration = Duration::from_secs(260);

// --- plain TFTP ---------------------------------------------------------------------------------------------

/// Transfers at once (`reliability.md`).
pub const TRANSFERS_MAX: usize = 16_384;
/// Transfers that the status shows; it counts all.
pub const TRANSFERS_SHOWN: usize = 64;
/// Transfers of one address.
pub const TRANSFERS_PER_SOURCE_MAX: usize = 8;
/// Blocks for one ACK, if the client asks for so many (RFC 7440). 64 blocks of 1468 bytes stay below what a client's
/// socket buffers by default (Linux: 208 KiB, with each packet counted as some 2 KiB), and Linux takes no more than 64
/// segments in one send.
pub const WINDOW_SIZE_MAX: u16 = 64;
/// Sends of a whole window while the client is silent. Then only its last block goes out: whoever lacks one before it says
/// so, and a client that is gone, or never was, draws no more than that.
pub const WINDOW_SENDS_MAX: u32 = 3;
/// Blocks that ACKs may have repeated for each that they acknowledge. A loss of one block in thirty costs 1.3 with windows
/// of 64; with more of it windows are wrong for this client, and the timer sets the pace.
pub const ACK_REPEATS_FOR_EACH: u64 = 2;
/// First time to a resend, before the round trip is known.
pub const TRANSFER_RESEND_FIRST: Duration = Duration::from_millis(500);
/// Shortest time to a resend of one block: below, a busy host's scheduling looks like loss. A copy too many does no harm
/// (see `plain/outstanding.rs`), and each loss costs a client that ACKs block by block so long.
pub const TRANSFER_RESEND_MIN: Duration = Duration::from_millis(5);
/// The same of a window: many copies, and rarely needed, as a client says by itself that it lacks a block before its last.
pub const WINDOW_RESEND_MIN: Duration = Duration::from_millis(20);
/// Longest time to a resend; it doubles with each.
pub const TRANSFER_RESEND_MAX: Duration = Duration::from_secs(2);
/// Sends of an OACK before the first ACK (`reliability.md`, amplification).
pub const OACK_SENDS_MAX: u32 = 5;
/// Sends of block 1 before the first ACK, without options.
pub const FIRST_BLOCK_SENDS_MAX: u32 = 3;
/// Sends of any later block: from the shortest time to a resend on about 12 s, longer than EDK2's 4 s timer and twice it.
pub const BLOCK_SENDS_MAX: u32 = 14;
/// Blocks out to a client that ACKs each: 32 of 1468 bytes at a round trip of 1 ms are 46 MB/s, and fit into any buffer of
/// a socket.
pub const RUN_AHEAD_MAX: u16 = 32;
/// ACKs before it is tried whether a client takes as many blocks as it once did not: a try in vain costs a round trip.
pub const RUN_AHEAD_HOLD: u16 = 64;
/// The most of them: it doubles with each time that it did not take them.
pub const RUN_AHEAD_HOLD_MAX: u16 = 1024;
/// Kinds of clients of which it is remembered how many blocks they take.
pub const KINDS_MAX: usize = 64;

// --- mtftp-get ----------------------------------------------------------------------------------------------

/// Clients of one `mtftp-get --clients`: as many as a session takes. Each has two sockets.
pub const LOAD_CLIENTS_MAX: u16 = 4096;

const _: () = assert!(GRACE.as_nanos() < LEASE.as_nanos());
const _: () = assert!(2 * REFERENCES_PER_SENDER_MAX <= CONTROLS_BURST as usize);
const _: () = assert!(FALL_BACKS_SHOWN > 0 && TOLD_PER_CLIENT_MAX > 0);
const _: () = assert!(TOLD_AGAIN.as_nanos() < TOLD_KEEP.as_nanos());
const _: () = assert!(KNOWN_MAX >= REFERENCES_MAX);
const _: () = assert!(RESEND_MIN.as_nanos() < SILENCE_MAX.as_nanos());
const _: () = assert!(SILENCE_MAX.as_nanos() < MASTER_SILENCE.as_nanos());
const _: () = assert!(MASTER_SILENCE.as_nanos() < SESSION_SILENCE.as_nanos());
