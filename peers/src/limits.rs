//! Every bound and every span of what servers know of each other, with its unit and its reason.

use std::time::Duration;

/// Between two hellos (races.md § 2.5, heartbeat): a burst of loss shows within a second, at 270 bytes/s.
pub const HELLO_INTERVAL: Duration = Duration::from_millis(300);
/// Each member's share of the time: with more than 30 members hellos become rarer, so that 100 a second are heard.
pub const HELLO_SHARE: Duration = Duration::from_millis(10);
/// The longest interval that a member is believed to have: its share of [`PEERS_MAX`] and itself.
pub const HELLO_INTERVAL_MAX: Duration = Duration::from_millis(12_810);
/// How long a server that has just started counts as joining, and waits for what others know (G24).
pub const JOIN_PATIENCE: Duration = Duration::from_secs(2);
/// Life of a member record, in seconds: who is beyond the link and silent for so long is dead.
pub const MEMBER_LIVES: u16 = 60;
/// How long records of a member are taken that has just left: datagrams overtake each other.
pub const PARTING: Duration = Duration::from_secs(1);
/// After so long the next copy of a member record is overdue: a quarter of its life, and what an exchange takes that
/// brings a copy which was lost.
pub const MEMBER_OVERDUE: Duration = Duration::from_millis(16_500);
/// How long a member that vanished without leaving is called unreachable: the longest life of a record. Later nothing
/// that it said is known any more, so no part of the domain goes by it.
pub const UNREACHABLE_KEEP: Duration = Duration::from_secs(LIVES_MAX as u64);
/// A server not heard for this long is not counted as living, among up to 29 members: ten hellos.
pub const PEER_SILENT: Duration = Duration::from_secs(3);
/// So many hellos of a server in a row are missed before it is not counted as living, however rare they are: at 10 % loss
/// once in 10^10 times, at 20 % once in 10^7. Too late is harmless (an early clear waits for an answer that does not come),
/// too soon is not: who is not counted is not asked.
pub const HELLOS_MISSED: u32 = 10;
/// A server not heard for this long is forgotten, and for as much longer as its silence may last before it counts.
pub const PEER_KEEP: Duration = Duration::from_secs(90);
/// Servers remembered, at most; beyond that strangers' hellos are dropped and counted. A thousand members, newcomers, and
/// some that are gone (races.md § 2.4): 0.5 KiB each in all tables that are bounded by it, 0.6 MiB together.
pub const PEERS_MAX: usize = 1280;
/// Hellos of one server over which its loss is measured: 38 s, and a step of 0.8 %.
pub const LOSS_WINDOW: u32 = 128;
/// Before so many could have been heard nothing is said about loss: 9 s.
pub const LOSS_WINDOW_MIN: u32 = 32;
/// How long a hello with the deaf flag counts: the flag is about the last second (G26).
pub const DEAF_FOR: Duration = Duration::from_secs(1);
/// A source that asks, and from which no hello has come for this long, speaks only the frozen packet.
pub const LEGACY_AFTER: Duration = Duration::from_secs(5);
/// A peer that speaks only the frozen packet is reckoned with for so long after its last query.
pub const LEGACY_KEEP: Duration = Duration::from_secs(24 * 3600);
/// Sources of queries without a hello remembered, at most; beyond that the oldest is forgotten.
pub const LEGACY_MAX: usize = 256;
/// Lowest-id record, boot LAN: how long a record takes to everybody and the answer back (r of R004.25).
pub const LOWEST_ROUND_TRIP_LAN: Duration = Duration::from_millis(50);
/// Lowest-id record, wide area: the source's own r.
pub const LOWEST_ROUND_TRIP_WAN: Duration = Duration::from_secs(1);
/// The timer's slope a, in round trips: r·ln 2 / b is 6.93 r for one collision in ten, b = 1/10 (R004.25).
pub const LOWEST_SLOPE: u32 = 7;
/// Above so many round trips the timer is drawn, between once and twice that (R004.25: 15 s).
pub const LOWEST_CAP: u32 = 15;
/// Between two refreshes of the lowest-id record, in round trips: 5 s on a LAN, 100 s wide area. 0.05 % of the time
/// that a flood takes.
pub const LOWEST_REFRESH: u32 = 100;
/// How long a lowest-id record lives, in round trips: two refreshes may be lost. 15 s on a LAN, 300 s wide area.
pub const LOWEST_LIVES: u32 = 300;
/// The greatest step of a version that is believed: at a refresh every 5 s this many take 2.6 years.
pub const LOWEST_JUMP_MAX: u32 = 1 << 24;
/// The last version: the record is left to expire, and versions begin at 1 again. One above it nothing could follow.
pub const LOWEST_VERSION_MAX: u32 = u32::MAX - 1;

// --- records --------------------------------------------------------------------------------------------------

/// Records kept in all (`reliability.md`, bounded state): under 40 MiB.
pub const RECORDS_MAX: usize = 65_536;
/// Records kept of one owner.
pub const OWNED_MAX: usize = 1024;
/// Longest life of a record, in seconds.
pub const LIVES_MAX: u16 = 3600;
/// How often a record is written anew in its life: three refreshes may be lost.
pub const REFRESHES: u32 = 4;
/// Shortest time between two changes of one record of ours.
pub const CHANGE_MIN: Duration = Duration::from_millis(200);
/// Shortest time between two changes of one record of another: half as long, for the way is not even.
pub const CHANGE_MIN_HEARD: Duration = Duration::from_millis(100);
/// How much longer than its life a deleted record is kept: clocks run apart, and datagrams take time.
pub const TOMBSTONE_EXTRA: Duration = Duration::from_secs(60);
/// How far in the future a boot epoch, which is a time, may lie.
pub const EPOCH_AHEAD_MAX: Duration = Duration::from_secs(24 * 3600);

// --- comparing them -------------------------------------------------------------------------------------------

/// Digests of ours that are remembered: as many records as come while a hello is on its way, in the worst of storms.
pub const FORMER_DIGESTS_MAX: usize = 256;
/// A digest differs for this long before lists are exchanged: two hellos, so that what is on its way arrives.
pub const DIFFERS_FOR: Duration = Duration::from_millis(300);
/// Lists are begun within this span, so that not all begin with one server at once.
pub const EXCHANGE_JITTER: Duration = Duration::from_millis(100);
/// Who agrees with most others waits for so long: the one that missed something comes of itself.
pub const MAJORITY_WAIT: Duration = Duration::from_millis(1500);
/// How long an exchange may take before the next one begins.
pub const EXCHANGE_PATIENCE: Duration = Duration::from_millis(300);
/// Longest pause between exchanges that bring nothing.
pub const EXCHANGE_BACKOFF_MAX: Duration = Duration::from_secs(30);
/// Lists sent at once: 1152 records; what is beyond them comes in the next exchange.
pub const LISTS_MAX: usize = 32;
/// Records sent for one list: what fits a list, and a few more.
pub const PUSHES_MAX: usize = 40;

// --- what a store keeps of the others ---------------------------------------------------------------------------

/// Changes are gathered for so long before the store writes them: a server that starts tells all its claims at once.
pub const SAVE_GATHER: Duration = Duration::from_secs(1);
/// Claims written at once: some milliseconds of the thread that writes our own claims, too.
pub const SAVED_AT_ONCE: usize = 256;
/// What a former process noted and nobody has told since ends after this long: the life of a claim's record, so what
/// there was at our start was refreshed by then, or is gone everywhere.
pub const SAVED_FORMER: Duration = Duration::from_secs(120);
/// Members noted: as many as a list has, and newcomers.
pub const SAVED_MEMBERS_MAX: usize = ROLL_TOLD_MAX;

// --- notes ------------------------------------------------------------------------------------------------------

/// Notes kept in all, the newest, beside the other records: half a MiB of words.
pub const NOTES_MAX: usize = 1024;
/// Notes kept of one owner, the newest: those of its last life as well.
pub const NOTES_OWNED_MAX: usize = 64;
/// Shortest life of an operator's note, in seconds: it has to be read.
pub const NOTE_LIVES_MIN: u16 = 10;
/// Notes of an operator of ours that may be there at the same time.
pub const NOTES_SAID_MAX: usize = 16;
/// Notes that we write of ourselves and that may be there at the same time.
pub const NOTES_TOLD_MAX: usize = 16;
/// Of those, conflicts, fall-backs and takeovers: of each of them so many.
pub const NOTES_REPEATED_MAX: usize = 4;
/// Life of a note that we write of ourselves, in seconds.
pub const NOTE_TOLD_LIVES: u16 = 300;
/// What is said in a note of ours is not said again so soon.
pub const NOTE_AGAIN: Duration = Duration::from_secs(60);
/// Members that vanish are named together: those of one link are missed within this time of each other.
pub const NOTE_GATHER: Duration = Duration::from_secs(2);
/// So many of them are named.
pub const NOTE_NAMES_MAX: usize = 8;

const _: () = assert!(2 * (NOTES_SAID_MAX + NOTES_TOLD_MAX) <= NOTES_OWNED_MAX);

// --- further domains --------------------------------------------------------------------------------------------

/// Domains of which a server may be a member, beside its own: each costs as much as its own does.
pub const FURTHER_MAX: usize = 8;
/// Members of a domain that tell another one of it (R004.3: a small fixed number, such as 4).
pub const CONTACTS_TOLD: usize = 4;
/// How much longer a contact of the configuration rests in a domain of operators: most are no members of it.
pub const FURTHER_REST: u32 = 15;
/// Between two looks at what domains tell of each other.
pub const RELATE: Duration = Duration::from_secs(1);

// --- neighbours beyond the link ---------------------------------------------------------------------------------

/// Between two looks at the neighbours, boot LAN: one that was cut off is found within a few.
pub const LOOK_LAN: Duration = Duration::from_secs(1);
/// The same, wide area.
pub const LOOK_WAN: Duration = Duration::from_secs(5);
/// With fewer neighbours beyond our link another one is looked for (R004.28: 2 and 8, or 5, 10 and 15 where there is no
/// multicast; here who is on our link is heard without).
pub const LINKS_MIN: usize = 2;
/// With more the least useful one is let go.
pub const LINKS_IDEAL: usize = 4;
/// With so many others are refused.
pub const LINKS_MAX: usize = 8;
/// Servers that are asked, neighbours included, contacts not.
pub const TRIED_MAX: usize = 16;
/// Servers that refusals have named and that may be asked; others push them out.
pub const NAMED_MAX: usize = 64;
/// Servers asked to connect at the same time, contacts left out.
pub const ASKED_MAX: usize = 3;
/// So many refusals in a row, and no more servers are asked until the next look (R004.7).
pub const REFUSALS_MAX: u32 = 6;
/// What a useful record adds to the utility index of a neighbour (R004.29).
pub const UTILITY_STEP: u32 = 128;
/// And what part of it each record takes away: the index tends to 32 times the step, 4096.
pub const UTILITY_DECAY: u32 = 32;
/// Below this index, a quarter useful, a neighbour becomes lazy: what it lacks is found by comparing.
pub const UTILITY_LAZY: u32 = 1024;
/// Nothing is judged by fewer records: in so many the index comes within a third of where it tends to.
pub const JUDGED_MIN: u32 = 32;
/// A lazy neighbour gets every record again after so many that were news: one or two were lost on their usual way.
pub const UTILITY_NEWS: u32 = 4;
/// One look in so many makes a neighbour lazy: the other links of the segment show first what they are worth without it.
pub const LAZY_LOOKS: u64 = 8;
/// One look in so many tries somebody new though there are neighbours enough (R004.28: at random intervals): each 15 min on
/// a LAN, 75 min wide area.
pub const TRY_LOOKS: u64 = 600;
/// The most hops between two members, if it can be had (R004.31).
pub const DIAMETER_MAX: u32 = 4;
/// And what is tried for when somebody new is tried anyway.
pub const DIAMETER_IDEAL: u32 = 3;
/// Of members that are not connected so many are asked between two looks, by all members together.
pub const SEEKERS: u64 = 8;
/// How often a contact is asked to connect before it rests (R004.7).
pub const CONNECT_TRIES: u32 = 6;
/// How often another server is asked: 1.4 s, so that those who are dead keep nobody from being asked.
pub const OTHERS_TRIES: u32 = 3;
/// First wait for its answer; it doubles.
pub const CONNECT_WAIT: Duration = Duration::from_millis(200);
/// First wait for the acknowledgement of a record; it doubles.
pub const RESEND_AFTER: Duration = Duration::from_millis(200);
/// How often it is sent again before the neighbour counts as gone: 12 s in all.
pub const RESENDS_MAX: u32 = 5;

// --- the roll ---------------------------------------------------------------------------------------------------

/// Members of a list (races.md § 2.4.4: a thousand share the pool, 65 addresses each).
pub const ROLL_MEMBERS_MAX: usize = 1000;
/// Parts of a list: what a thousand members need, 72 to a record.
pub const ROLL_PARTS_MAX: usize = 14;
/// Lists that are pending here. One is the rule, and one for each server that leaves or is struck off meanwhile,
/// and for each part that a domain was cut into; beyond that none is taken up.
pub const ROLL_PENDING_MAX: usize = 16;
/// First lists that a list is known to come from: as many parts, begun apart, may have met.
pub const ROLL_ORIGINS_MAX: usize = 14;
/// How many of those a proposer makes because somebody new has come: the rest is for those that are gone.
pub const ROLL_PROPOSALS_MAX: usize = 8;
/// A list that is pending for longer waits for somebody that is dead, or for another part with a list of its own: it
/// keeps newcomers out no longer. The most rounds over a bad link take a few seconds.
pub const ROLL_PATIENCE: Duration = Duration::from_secs(10);
/// Lists of others whose parts are gathered: one at a time is published in each part of a cut domain. 1 MiB at most.
pub const ROLL_GATHERINGS_MAX: usize = 64;
/// Servers of which is kept what they have taken up, and how long they live: all members, and newcomers.
pub const ROLL_TOLD_MAX: usize = 1280;
/// Servers that are known to be gone: all members but one, and some that nobody knows here yet.
pub const ROLL_GONE_MAX: usize = 1280;
/// Life of a member's word, in seconds: who left for good refreshes nothing, and must be heard by all.
pub const ROLL_WORD_LIVES: u16 = LIVES_MAX;
/// Life of the records of a list, in seconds: deleted ones, which lists leave behind, are soon forgotten.
pub const ROLL_LIST_LIVES: u16 = 120;
/// How long a server lives before it becomes a member: a server that falls over at once never does.
pub const ROLL_SETTLE: Duration = Duration::from_secs(3);
/// For each hundred members, between two looks at what they say of the list: a look at a thousand takes some 100 µs.
pub const ROLL_PACE: Duration = Duration::from_millis(1);
/// Between two lists proposed by one server: a store is written at each by everybody.
pub const ROLL_PROPOSE_MIN: Duration = Duration::from_secs(3);
/// How long a server that leaves for good waits for a list without it. If it ends before, an operator may have to
/// strike it off.
pub const ROLL_LEAVE_PATIENCE: Duration = Duration::from_secs(10);
/// When a store that failed is tried again.
pub const ROLL_STORE_AGAIN: Duration = Duration::from_secs(1);
/// The greatest step of a version that is believed: so many changes a server may have missed. With one a day an
/// attacker has to be let in four thousand times to end all change.
pub const ROLL_JUMP_MAX: u32 = 1 << 20;
/// The greatest version that a server believes that has no list.
pub const ROLL_FIRST_MAX: u32 = 1 << 31;
/// The last version: one above it nothing could follow.
pub const ROLL_VERSION_MAX: u32 = u32::MAX - 1;

const _: () = assert!(ROLL_PARTS_MAX == ROLL_MEMBERS_MAX.div_ceil(wire::record::ROLL_MAX));
const _: () = assert!(ROLL_MEMBERS_MAX < ROLL_TOLD_MAX && ROLL_MEMBERS_MAX < ROLL_GONE_MAX);
// They are counted in four bits of a number that is less than 255.
const _: () = assert!(ROLL_ORIGINS_MAX < 15 && 2 * ROLL_ORIGINS_MAX < wire::record::ROLL_MAX);
const _: () = assert!(ROLL_PROPOSALS_MAX < ROLL_PENDING_MAX);
// The deleted records of all lists that are proposed in their life find room beside a server's claims.
const _: () = assert!(
    (ROLL_LIST_LIVES as u64 + TOMBSTONE_EXTRA.as_secs()) / ROLL_PROPOSE_MIN.as_secs() * ROLL_PARTS_MAX as u64
        <= OWNED_MAX as u64 * 9 / 10,
    "lists leave too many deleted records behind"
);
// Who lives is told by hellos: a server that is silent for a moment is no newcomer afterwards.
const _: () = assert!(ROLL_SETTLE.as_millis() >= PEER_SILENT.as_millis());

const _: () = assert!(CHANGE_MIN_HEARD.as_nanos() < CHANGE_MIN.as_nanos());
const _: () = assert!(HELLO_INTERVAL.as_millis() * HELLOS_MISSED as u128 == PEER_SILENT.as_millis());
const _: () = assert!(ROLL_TOLD_MAX == PEERS_MAX);
const _: () = assert!(HELLO_INTERVAL_MAX.as_millis() == HELLO_SHARE.as_millis() * (PEERS_MAX as u128 + 1));
const _: () = assert!(PEER_SILENT.as_millis() < LEGACY_AFTER.as_millis());
const _: () = assert!(LOSS_WINDOW_MIN < LOSS_WINDOW);
// A partition is seen within 17 s on a LAN (requirements.md, section 5): a life, the longest timer, a round trip.
const _: () = assert!(
    (LOWEST_LIVES + 2 * LOWEST_CAP + 1) as u128 * LOWEST_ROUND_TRIP_LAN.as_millis() <= 17_000,
    "a partition is seen too late"
);
// What one member sees by itself comes within the same time.
const _: () = assert!(MEMBER_OVERDUE.as_millis() <= 17_000);
const _: () = assert!(MEMBER_OVERDUE.as_secs() > (MEMBER_LIVES as u64) / (REFRESHES as u64));
// A hello, a back-off of twice the cap at most, and the way there and back: healed within 2 s on a LAN.
const _: () = assert!(
    HELLO_INTERVAL.as_millis() + (2 * LOWEST_CAP + 1) as u128 * LOWEST_ROUND_TRIP_LAN.as_millis() <= 2_000
);
const _: () = assert!(2 * LOWEST_REFRESH < LOWEST_LIVES && 2 * LOWEST_CAP < LOWEST_REFRESH);

// --- the responder election -------------------------------------------------------------------------------------

/// Between two inquiries (R001.24); with more than 30 boot servers as for hellos.
pub const INQUIRY_INTERVAL: Duration = HELLO_INTERVAL;
/// So many inquiries of a server may be missed before it is asked in particular.
pub const INQUIRIES_MISSED: u32 = 2;
/// How late an inquiry may be: a busy host, and the way.
pub const INQUIRY_SLACK: Duration = Duration::from_millis(50);
/// How often a server that was not heard is asked in particular before it counts as not working.
pub const URGENT_MAX: u8 = 4;
/// How long it has for each answer.
pub const URGENT_WAIT: Duration = Duration::from_millis(60);
/// The base of the election delay (R001.12): those who stand by miss the same inquiry, and do so within this span.
pub const ELECTION_BASE: Duration = Duration::from_millis(50);
/// The least delay between two servers that is reckoned with: a loaded host is scheduled this late.
pub const DELAY_MIN: Duration = Duration::from_millis(5);
/// The greatest.
pub const DELAY_MAX: Duration = Duration::from_millis(200);
/// What is reckoned with before any is measured.
pub const DELAY_UNKNOWN: Duration = Duration::from_millis(20);
/// How long a server works before it takes over shards that another one answers: a link that comes and goes moves no
/// clients to and fro.
pub const HOLD_DOWN: Duration = Duration::from_secs(30);
/// A responder's record must tell of its shards so soon after its message did.
pub const CONFIRM_WITHIN: Duration = Duration::from_millis(1500);
/// Between two second messages to one server.
pub const REVOKE_EVERY: Duration = Duration::from_millis(300);
/// Delays of one server to others that are kept.
pub const DELAYS_MAX: usize = 64;
/// Boot servers of a link that stand for election.
pub const CANDIDATES_MAX: usize = PEERS_MAX;
/// After so long without a sign of life a boot server stands no more.
pub const CANDIDATE_KEEP: Duration = PEER_KEEP;
/// The greatest step of an epoch that is believed: so many changes of one shard a server may have missed.
pub const EPOCH_JUMP_MAX: u32 = 1 << 20;
/// The last epoch.
pub const EPOCH_MAX: u32 = u32::MAX - 1;
/// Life of the record that tells which shards a server answers, in seconds.
pub const RESPONDER_LIVES: u16 = MEMBER_LIVES;
/// The number of inquiries of which it is remembered when they went out.
pub const INQUIRIES_REMEMBERED: usize = 16;

// Nobody who works is taken for dead for two lost inquiries and three lost questions, and the next answer comes within a
// second and a half (reliability.md, failover): the silence, the questions, and a place in the middle of the row.
const _: () = assert!(
    INQUIRY_INTERVAL.as_millis() * INQUIRIES_MISSED as u128
        + INQUIRY_SLACK.as_millis()
        + URGENT_WAIT.as_millis() * URGENT_MAX as u128
        + ELECTION_BASE.as_millis()
        <= 1000,
    "a dead responder is noticed too late"
);
