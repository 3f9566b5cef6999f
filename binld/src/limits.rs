//! Every bound and every span of the boot server, with its unit and its reason.

use std::time::Duration;

/// Queries of one foreground clearing while little is lost: 6e-12 duplicates at 1 % loss with passive learning
/// (races.md T3, T4).
pub const QUERY_COUNT: u8 = 4;
/// Up to this loss, in per mille, [`QUERY_COUNT`] will do (races.md § 2.5).
pub const LOSS_LITTLE: u16 = 20;
/// Queries beyond that.
pub const QUERY_COUNT_LOSSY: u8 = 6;
/// Up to this loss, in per mille, [`QUERY_COUNT_LOSSY`] will do.
pub const LOSS_MUCH: u16 = 100;
/// Queries beyond that.
pub const QUERY_COUNT_BAD: u8 = 8;
/// Between two queries, and after the last one (decisions.md, Clearing): clear after 400 ms.
pub const QUERY_INTERVAL: Duration = Duration::from_millis(100);
/// Until those are asked a second time who have not said *clear*: some round trips of a LAN. With 32 members and 1 % loss
/// one of them has not in 46 % of all cases.
pub const EARLY_RETRY_FIRST: Duration = Duration::from_millis(3);
/// Between two times that they are asked, at most (races.md T11).
pub const EARLY_RETRY_MAX: Duration = Duration::from_millis(20);
/// An attempt to be told *clear* by all ends after this long. A server that hears nothing of us
/// believes us living for [`peers::limits::PEER_SILENT`], so nobody commits past us while we count answers.
pub const EARLY_LIVES: Duration = Duration::from_millis(500);
/// When the queries of a background clearing go out, in ms after its start: outlives bursts of loss (races.md T7).
pub const BACKGROUND_QUERIES_MS: [u64; 6] = [0, 100, 300, 700, 1500, 3100];
/// Silence after the last query of a background clearing.
pub const BACKGROUND_WAIT: Duration = Duration::from_millis(500);
/// Clearings begin up to this much late, so that two servers do not march in step after a power cut.
pub const START_JITTER: Duration = Duration::from_millis(20);

/// First two announcements after a claim is held.
pub const ANNOUNCE_FIRST: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3)];
/// Later announcements, each up to [`ANNOUNCE_JITTER`] late.
pub const ANNOUNCE_INTERVAL: Duration = Duration::from_secs(30);
/// See [`ANNOUNCE_INTERVAL`].
pub const ANNOUNCE_JITTER: Duration = Duration::from_secs(2);
/// A holder that was asked announces again after this long (Y3).
pub const ANNOUNCE_AFTER_QUERY: Duration = Duration::from_millis(200);

/// Between two statements about a disputed address, and for the wait after each (Y4).
pub const STATE_INTERVAL: Duration = Duration::from_secs(1);
/// Statements without an answer, after which the other side counts as mute (Y4).
pub const STATEMENTS_MAX: u8 = 4;
/// A dispute that was won ends after this long at the latest: by then the loser's MTFTP server has ended its session (Y4).
pub const DISPUTE_MAX: Duration = Duration::from_secs(120);
/// An address that a client was told this recently is in use (Y4).
pub const IN_USE: Duration = Duration::from_secs(300);
/// How long it is remembered that somebody echoes and answers no statement (Y5).
pub const MUTE_KEEP: Duration = Duration::from_secs(300);
/// Announcements that a listed legacy peer must echo before a committed claim yields to it (Y5) …
pub const LEGACY_ECHOES: u8 = 2;
/// … and how far apart.
pub const LEGACY_ECHO_GAP: Duration = Duration::from_secs(1);
/// Contests at once, at most; beyond that an echo or statement is counted and dropped.
pub const CONTESTS_MAX: usize = 1024;
/// How long a clearing goes on after the last legacy peer must have made up its mind: two queries (races.md T6b).
pub const LEGACY_PROBES: usize = 2;

/// So many conflicts, more than one request's [`CANDIDATES_MAX`] …
pub const CONFLICTS_MANY: usize = 20;
/// … in this span, and only one attempt is made in [`CONFLICTS_PAUSE`] (races.md § 2.5; RFC 6762 and 5227 likewise).
pub const CONFLICTS_MANY_SPAN: Duration = Duration::from_secs(10);
/// See [`CONFLICTS_MANY_SPAN`].
pub const CONFLICTS_PAUSE: Duration = Duration::from_secs(5);
/// So many conflicts …
pub const CONFLICTS_ALARM: usize = 50;
/// … in this span, and the operator is told; nothing is tried for [`EXHAUSTED_PAUSE`].
pub const CONFLICTS_ALARM_SPAN: Duration = Duration::from_secs(60);

/// Who asks again after this long is not clearing but announcing: longer than any clearing (Y6).
pub const SHARE_AFTER: Duration = Duration::from_secs(5);
/// Addresses tried for one content before its clients get plain TFTP and the operator an alarm (G22).
pub const CANDIDATES_MAX: u32 = 16;
/// How long no new attempt is made after [`CANDIDATES_MAX`] refusals.
pub const EXHAUSTED_PAUSE: Duration = Duration::from_secs(30);
/// How long an address found in use is not tried again.
pub const MARK_SHORT: Duration = Duration::from_secs(5);
/// The same when a `hold` statement or a second refusal confirms it.
pub const MARK_LONG: Duration = Duration::from_secs(300);
/// A refusal within this span of the first confirms it.
pub const MARK_MEMORY: Duration = Duration::from_secs(300);
/// Marks kept at most; beyond that the one that ends first is forgotten.
pub const MARKS_MAX: usize = 4096;
/// An address that somebody was heard to ask for or to announce is tried last for this long: three announcements.
pub const OVERHEARD_KEEP: Duration = Duration::from_secs(96);
/// Overheard addresses kept at most; beyond that the oldest is forgotten.
pub const OVERHEARD_MAX: usize = 4096;

/// When a refused claimant of the pinned tuple asks again (P1); the last value repeats.
pub const PINNED_RETRIES: [Duration; 4] =
    [Duration::from_secs(5), Duration::from_secs(10), Duration::from_secs(20), Duration::from_secs(30)];
/// The last of [`PINNED_RETRIES`] is up to this much earlier or later.
pub const PINNED_RETRY_JITTER: Duration = Duration::from_secs(2);

/// A holder of the pinned tuple that others want goes after this long, in use or not (P2).
pub const PINNED_TENURE: Duration = Duration::from_secs(600);
/// Whether a holder's turn is over, and whether one that had its turn may ask again, is looked at this often.
pub const PINNED_CHECK: Duration = Duration::from_secs(5);
/// A claimant of the pinned tuple that was not heard for this long waits no more (P2, P4).
pub const WAITER_SILENT: Duration = Duration::from_secs(60);
/// Claimants of the pinned tuple that are remembered, at most.
pub const WAITERS_MAX: usize = 256;
/// For each waiter the longest time that one that had its turn waits (P4): tenure, handout and session, and some.
pub const PINNED_TURN_MAX: Duration = Duration::from_secs(900);

/// Waits after each sending of a request to an MTFTP server; after the last one it is given up (G17).
pub const CONFIGURE_WAITS: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
];
/// Between attempts to delete a reference at a server that does not answer.
pub const DELETE_RETRY: Duration = Duration::from_secs(10);
/// After this long without an answer to a delete the address is no longer kept for it; the deletes go on.
pub const DELETE_PATIENCE: Duration = Duration::from_secs(60);
/// A held claim is configured again this often. Below [`FILE_ACK_MAX`], so that answers never wait for a renewal.
pub const RENEW_INTERVAL: Duration = Duration::from_secs(45);
/// An address is handed out only while its last ACK is younger than this.
pub const CLAIM_ACK_MAX: Duration = Duration::from_secs(180);
/// No answer names a server whose last ACK for the file is older than this.
pub const FILE_ACK_MAX: Duration = Duration::from_secs(60);
/// A file that was acknowledged is asked for again this often.
pub const FILE_REFRESH: Duration = Duration::from_secs(30);
/// … and up to this much later, so that the questions of a long catalog spread out.
pub const FILE_JITTER: Duration = Duration::from_secs(5);
/// At start the questions go out this far apart.
pub const FILE_SPACING: Duration = Duration::from_millis(2);
/// A file that was refused, or whose server is silent, is asked for again this often.
pub const FILE_RETRY: Duration = Duration::from_secs(2);

/// The list of boot servers is told who lives at most this often, among a thousand some 100 µs each time.
pub const LIVING_INTERVAL: Duration = Duration::from_millis(50);
/// The claims are compared with the catalog at most this often: with 10,000 items that takes some 20 ms, and every answer
/// of an MTFTP server may be a reason. Clients do not wait for it, unless more than [`CLIENTS_AT_ONCE`] wait.
pub const RECONCILE_INTERVAL: Duration = Duration::from_millis(50);

/// A client that was told an address may open it for this long (P3).
pub const HANDOUT_LIFETIME: Duration = Duration::from_secs(120);
/// A released address is defended, and not used again, for this long (G15).
pub const REST: Duration = Duration::from_secs(300);
/// The same for the pinned tuple, which others wait for (P3).
pub const REST_PINNED: Duration = Duration::from_secs(10);

/// How long a client can be kept waiting: iPXE asks at 0 and 1.04 s and gives up at 3.05 s.
pub const CLIENT_PATIENCE: Duration = Duration::from_millis(2500);
/// How long a client waits that understands the wait packet: for that long addresses are tried one after the other, and
/// then it gets plain TFTP.
pub const WAITING_PATIENCE: Duration = Duration::from_secs(30);
/// When such a client asks again, if it hears nothing more: a lost answer costs it this long.
pub const WAIT_SECONDS: u8 = 2;
/// A request of a client that comes so long after its first one is a repeat, not a copy; and as much later for each more.
/// Firmware repeats after a second and more.
pub const REPEAT_AFTER: Duration = Duration::from_millis(500);
/// Clients waiting for an answer, at most; beyond that a request is dropped and counted.
pub const CLIENTS_WAITING_MAX: usize = 16_384;
/// If more wait, then whatever happens only those are looked at whom it concerns, and all every [`RECONCILE_INTERVAL`]:
/// a thousand answers that a thousand clients wait for are not a million looks.
pub const CLIENTS_AT_ONCE: usize = 64;
/// Queries of one source that are answered in a second, and at once; the rest is dropped and counted (`security.md`).
pub const ANSWER_RATE: u32 = 50;
/// Statements and hellos of one source that are looked at in a second, and at once: a partition that heals may leave some
/// hundred addresses in dispute with one server.
pub const STATEMENT_RATE: u32 = 500;
/// Clients that a file server is told of, at once: as many as it remembers (`TOLD_MAX` of `mtftp`). In a larger boot storm
/// it would forget each further one, and it has more to do than to hear of them.
pub const TOLD_BURST: u32 = 16_384;
/// … and in a second: it remembers them for ten minutes.
pub const TOLD_RATE: u32 = 27;
/// Sources whose rate is watched at once, at most.
pub const SOURCES_MAX: usize = 4096;

/// The store is told this often that the server lives (Y7).
pub const ALIVE_INTERVAL: Duration = Duration::from_secs(60);
/// A server that was alive this recently still holds its claims after a restart (Y7).
pub const ALIVE_RECENT_MS: u64 = 300_000;

/// New sources that speak only the frozen packet are gathered for so long before the store writes them: whoever sends from
/// a thousand addresses causes one write.
pub const LEGACY_GATHER: Duration = Duration::from_secs(1);
/// When a source that speaks only the frozen packet was heard is written this often: coarse beside the 24 h for which it
/// counts.
pub const LEGACY_NOTE: Duration = Duration::from_secs(300);
/// Between the last sign of life of a process and the start of the next, at most, so that they count as one that listened:
/// a process that was killed was last heard of [`ALIVE_INTERVAL`] ago, and a restart takes seconds. In a day that is one
/// part in a thousand.
pub const LISTEN_GAP_MAX: Duration = Duration::from_secs(90);
/// How long a process listens itself, whatever the former one heard: an announcement, and its jitter, are missed in no gap.
pub const LISTEN_ANEW: Duration = Duration::from_secs(32);
/// A wall clock that moved by this much against the other one was set.
pub const CLOCK_SET: Duration = Duration::from_secs(2);

/// Life of a claim's record, in seconds (requirements.md § 5): refreshed every 30 s.
pub const CLAIM_LIVES: u16 = 120;
/// A claim of another member is shared, and defended for it, only if it was refreshed this recently.
pub const REPLICA_FRESH: Duration = Duration::from_secs(90);
/// Claims of ours that the domain is told: with the member record what others keep of one owner.
pub const PUBLISHED_MAX: usize = peers::limits::OWNED_MAX - 1;

/// How long a client's claim waits for another boot server's that was heard to ask for the same content.
pub const SHARE_WAIT: Duration = Duration::from_secs(1);
/// When an address is looked for again after the list of boot servers allowed none; a change of the list comes sooner.
pub const SLICE_RETRY: Duration = Duration::from_secs(5);
/// The owner of a slice is asked again after this, then twice as long each time …
pub const LOAN_RETRY_FIRST: Duration = Duration::from_millis(20);
/// … but not longer.
pub const LOAN_ASK_MAX: Duration = Duration::from_millis(200);
/// An owner that has not answered by then is dead, or cut off.
pub const LOAN_PATIENCE: Duration = Duration::from_secs(1);
/// The borrower commits within this from its question; the longest clearing takes half of it.
pub const LOAN_USE: Duration = Duration::from_secs(10);
/// How much longer than an address rests the borrower must have told nothing: who is heard, and has told everything, is
/// known a few seconds late.
pub const LOAN_MARGIN: Duration = Duration::from_secs(10);
/// Loans are looked at this often.
pub const LOAN_CHECK: Duration = Duration::from_secs(2);
/// Loans at once: what a pool that is nearly full needs.
pub const LOANS_MAX: usize = 1024;

/// Between two looks for references of dead BINLDs, and before the first request: whoever is only late says so by then.
pub const BEHALF_INTERVAL: Duration = Duration::from_secs(10);
/// Longest wait before an MTFTP server is asked again: it may have its reason, or an operator must look.
pub const BEHALF_WAIT_MAX: Duration = Duration::from_secs(600);
/// References pursued at once: what one BINLD may have with an MTFTP server. Others come when these are gone.
pub const BEHALF_MAX: usize = 1024;
/// Requests of one look: few beside what a server takes from one source.
pub const BEHALF_AT_ONCE: usize = 64;

const _: () = assert!(EARLY_LIVES.as_millis() * 4 < peers::limits::PEER_SILENT.as_millis());
const _: () = assert!(LOAN_MARGIN.as_millis() >= 2 * peers::limits::PEER_SILENT.as_millis());
const _: () = assert!(ALIVE_INTERVAL.as_millis() < LISTEN_GAP_MAX.as_millis());
const _: () = assert!(LISTEN_ANEW.as_millis() >= ANNOUNCE_INTERVAL.as_millis() + ANNOUNCE_JITTER.as_millis());
const _: () = assert!(RENEW_INTERVAL.as_millis() < FILE_ACK_MAX.as_millis());
const _: () = assert!(FILE_REFRESH.as_millis() + FILE_JITTER.as_millis() < FILE_ACK_MAX.as_millis());
const _: () = assert!(FILE_ACK_MAX.as_millis() <= CLAIM_ACK_MAX.as_millis());
const _: () = assert!(STATE_INTERVAL.as_millis() * (STATEMENTS_MAX as u128) < DISPUTE_MAX.as_millis());
const _: () = assert!(HANDOUT_LIFETIME.as_millis() < IN_USE.as_millis());
const _: () = assert!(CANDIDATES_MAX as usize <= CONFLICTS_MANY && CONFLICTS_MANY < CONFLICTS_ALARM);
const _: () = assert!(QUERY_COUNT < QUERY_COUNT_LOSSY && QUERY_COUNT_LOSSY < QUERY_COUNT_BAD);
const _: () = assert!(MARK_SHORT.as_millis() < MARK_LONG.as_millis());
