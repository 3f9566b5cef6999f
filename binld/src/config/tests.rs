use std::path::Path;

use driver::Role;
use proptest::prelude::*;
use wire::dhcp::BootRequest;
use wire::policy::{Policy, SlowClients};

use super::*;

const SMALL: &str = "interface = \"eth0\"
[[mtftp]]
address = \"10.0.0.9\"
[[item]]
name = \"debian\"
type = 0x8001
[[item.boot]]
file = \"boot.ipxe\"
";

fn parsed(text: &str) -> Parsed {
    parse(Path::new("x.toml"), text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn lo() -> Interface {
    Interface { name: "lo".to_owned(), index: 1, address: Ipv4Addr::LOCALHOST, prefix_len: 8 }
}

#[test]
fn a_single_server_needs_little_and_the_rest_has_its_defaults() {
    let Parsed { config, warnings, .. } = parsed(SMALL);
    assert_eq!(warnings, []);
    let printed = config.to_string();
    let expected = "interface = \"eth0\"
state_dir = \"/var/lib/pxemc\"
run_dir = \"/run/pxemc\"

[discovery]
port = 4011
groups = [\"224.0.1.2\"]
broadcast = false

[query]
group = \"239.255.255.15\"
port = 4015
legacy_peers = []
legacy_wait_ms = 1000

[control]
port = 4016

[domain]
name = \"pxe\"
contacts = []
preset = \"lan\"
also = []
notes = true

[responder]
weight = \"auto\"
zone = \"pxe.internal.\"

[pool]
first = \"239.255.0.0\"
last = \"239.255.254.255\"
exclude = []
client_port = 3001
server_port = 1760
ttl = 1

[pinned]
group = \"239.255.1.1\"
client_port = 3001
server_port = 1759

[log]
level = \"info\"
json = false

[[mtftp]]
address = \"10.0.0.9\"
control_port = 4017

[[item]]
name = \"debian\"
type = 0x8001
layer = 0
clients = []
preclear = true

[[item.boot]]
profile = \"tftp\"
arch = []
file = \"boot.ipxe\"
pinned = false
also = []
servers = [\"10.0.0.9\"]
";
    assert_eq!(printed, expected);
    assert_eq!(parsed(&printed).config, config);
}

const FULL: &str = r#"
interface = "eth0"
address = "10.0.0.2"
state_dir = "/tmp/a \"b\""
run_dir = "run"
discovery = { port = 1, groups = [], broadcast = true }
query = { group = "239.255.255.16", port = 2, legacy_peers = ["10.0.0.7"], legacy_wait_ms = 1500 }
control = { port = 3 }
domain = { name = "lab", contacts = ["10.9.0.1:4016"], preset = "wan" }
pool = { first = "239.192.0.0", last = "239.192.0.9", exclude = ["239.192.0.3"], client_port = 4, server_port = 5, ttl = 9 }
pinned = { group = "239.255.1.2", client_port = 6, server_port = 7 }
log = { level = "warn,binld=trace", json = true }
mtftp = [{ address = "10.0.0.9", control_port = 8 }, { address = "10.0.0.2" }]
[[item]]
name = "one\\two"
type = 0x8001
layer = 3
user_class = "type = 5\ntype = 6"
clients = ["52:54:00:12:34:56", "00112233-4455-6677-8899-aabbccddeeff"]
preclear = false
boot = [
  { profile = "ipxe", arch = [0, 7], file = "a b/ü.ipxe", multicast = "big", pinned = true, also = ["c"] },
  { profile = "pxe-rom", file = "rom", multicast = "rom", servers = ["10.0.0.2"] },
]
[[item]]
name = "two"
type = 0xfffe
[[item.boot]]
file = "f"
"#;

#[test]
fn what_is_printed_parses_back() {
    let config = parsed(FULL).config;
    let printed = config.to_string();
    assert_eq!(parsed(&printed).config, config, "{printed}");
    assert_eq!(parsed(&printed).config.to_string(), printed);
}

#[test]
fn the_engine_gets_what_the_file_says() {
    let config = parsed(FULL).config;
    let engine = config.engine(&lo());
    assert_eq!((engine.address, engine.prefix_len), (Ipv4Addr::LOCALHOST, 8));
    assert_eq!(engine.query, "239.255.255.16:2".parse().unwrap());
    assert_eq!(engine.legacy.peers.iter().collect::<Vec<_>>(), [&Ipv4Addr::new(10, 0, 0, 7)]);
    assert_eq!(engine.legacy.wait.as_millis(), 1500);
    assert_eq!(engine.control_port, 3);
    assert_eq!((engine.dynamic_ports.client, engine.dynamic_ports.server), (4, 5));
    assert_eq!((engine.pinned.ports.client, engine.pinned.ports.server), (6, 7));
    let free = |last: u8| engine.pool.holds(GroupAddr::new(Ipv4Addr::new(239, 192, 0, last)).unwrap());
    assert!(!free(2) || engine.pool.first.ip().octets()[3] == 0);
    assert!(!free(3) && !free(10));
    let [one, two] = engine.catalog.items.as_slice() else { panic!("{:?}", engine.catalog) };
    assert_eq!((one.boot_item.server_type.0, one.boot_item.layer.0, one.preclear), (0x8001, 3, false));
    assert_eq!(one.user_class.as_deref(), Some(&b"type = 5\ntype = 6"[..]));
    assert_eq!((one.clients.len(), one.boots.len(), two.boots.len()), (2, 2, 1));
    assert_eq!(one.boots[0].profile, Profile::Ipxe);
    assert_eq!(one.boots[0].architectures, [0, 7]);
    assert_eq!(one.boots[0].file.as_bytes(), "a b/ü.ipxe".as_bytes());
    let both: [Ipv4Addr; 2] = ["10.0.0.9".parse().unwrap(), "10.0.0.2".parse().unwrap()];
    assert_eq!(one.boots[0].servers, both);
    assert_eq!(one.boots[1].servers, both[1..]);
    assert_eq!(engine.catalog.control_of(both[0]), Some("10.0.0.9:8".parse().unwrap()));
    assert_eq!(engine.catalog.control_of(both[1]), Some("10.0.0.2:4017".parse().unwrap()));
}

#[test]
fn the_pinned_address_is_never_in_the_pool() {
    let engine = parsed(SMALL).config.engine(&lo());
    let held = |text: &str| engine.pool.holds(text.parse().unwrap());
    assert!(held("239.255.1.0") && held("239.255.1.2"));
    assert!(!held("239.255.1.1") && !held("239.255.255.15"));
    let catalog = engine.catalog;
    let request: BootRequest = ipxe();
    assert!(catalog.find(&request, catalog.items[0].boot_item).is_some());
}

fn ipxe() -> BootRequest {
    BootRequest {
        kind: wire::dhcp::RequestKind::Request,
        xid: 0,
        flags: 0,
        ciaddr: Ipv4Addr::LOCALHOST,
        giaddr: Ipv4Addr::UNSPECIFIED,
        mac: wire::Mac([0; 6]),
        user_class: b"iPXE".to_vec(),
        architectures: vec![0],
        uuid: None,
        vendor: None,
    }
}

#[test]
fn doors_are_opened_as_configured() {
    let small = parsed(SMALL).config.doors(&lo());
    let roles: Vec<(Role, u16, usize, bool)> =
        small.iter().map(|door| (door.role, door.port, door.groups.len(), door.own)).collect();
    assert_eq!(
        roles,
        [(Role::Query, 4015, 1, true), (Role::Control, 4016, 1, true), (Role::Discovery, 4011, 1, true)]
    );
    let full = parsed(FULL).config.doors(&lo());
    let last = full.last().unwrap();
    assert_eq!((last.role, last.port, last.own, last.broadcast), (Role::Broadcast, 67, false, true));
}

/// `SMALL` with some text put in place of other text.
fn altered(from: &str, to: &str) -> String {
    assert!(SMALL.contains(from), "{from}");
    SMALL.replacen(from, to, 1)
}

/// `SMALL` with more lines before its first table, at line 2.
fn with(lines: &str) -> String {
    altered("[[mtftp]]", &format!("{lines}\n[[mtftp]]"))
}

/// `SMALL` with more lines at its end, from line 9.
fn and(lines: &str) -> String {
    format!("{SMALL}{lines}\n")
}

const SECOND: &str = "[[item]]\nname = \"second\"\ntype = 0x8001\n[[item.boot]]\nfile = \"b\"\n";

#[test]
fn what_is_wrong_in_general_is_said_with_its_line() {
    let cases: &[(String, &str)] = &[
        (altered("interface = \"eth0\"", ""), "x.toml:1: missing field `interface`"),
        (with("pol = 1"), "x.toml:2: unknown key `pol`; did you mean `pool`?"),
        (and("fil = \"b\""), "x.toml:9: unknown key `fil`; did you mean `file`?"),
        (
            with("address = \"10.0.0\""),
            "x.toml:2: `10.0.0` is not an IPv4 address; write one like \"10.0.0.2\"",
        ),
        (with("[query]\nport = 0"), "x.toml:3: `query.port` is 0; write a port of 1–65535"),
        (
            with("[query]\nport = 4016"),
            "x.toml:3: `control.port` is 4016, as `query.port` is; give each a port of its own",
        ),
        (
            with("[discovery]\nbroadcast = true\nport = 67"),
            "x.toml:4: `discovery.port` is 67, which `discovery.broadcast` takes; give each a port of its own",
        ),
        (
            with("[pool]\nclient_port = 1758"),
            "x.toml:3: `pool.client_port` is 1758, which streams of RFC 2090 use; choose another port, such as 3001",
        ),
        (
            with("[pinned]\nserver_port = 1760"),
            "x.toml:3: `pool.server_port` and `pinned.server_port` are the same; an open finds its claim by port \
             and file: give each a port of its own",
        ),
        (
            with("[query]\ngroup = \"10.0.0.1\""),
            "x.toml:3: 10.0.0.1 is not a multicast address; write one of 224.0.0.0–239.255.255.255",
        ),
        (
            with("[query]\ngroup = \"239.255.3.3\""),
            "x.toml:3: the query group 239.255.3.3 lies in the pool; claims must never use it: choose one outside \
             the pool",
        ),
        (
            with("[pinned]\ngroup = \"239.255.255.15\""),
            "x.toml:3: the pinned address 239.255.255.15 is the query group; give each an address of its own",
        ),
        (
            with("[discovery]\ngroups = [\n\"224.0.1.2\",\n\"224.0.1.2\"]"),
            "x.toml:5: 224.0.1.2 stands there twice; write it once",
        ),
        (
            with("[discovery]\ngroups = [\"239.255.4.4\"]"),
            "x.toml:3: the discovery group 239.255.4.4 is one that claims use; choose another",
        ),
        (
            with("[log]\nlevel = \"loud\""),
            "x.toml:3: `loud` is no log level; write one like \"info\" or \"info,binld::engine=debug\"",
        ),
        (
            altered("10.0.0.9", "224.0.0.9"),
            "x.toml:3: 224.0.0.9 is no host's address; write one like \"10.0.0.2\"",
        ),
        (
            with("[[mtftp]]\naddress = \"10.0.0.8\"\ncontrol_port = 0"),
            "x.toml:4: `control_port` is 0; write a port of 1–65535",
        ),
        (
            with("[[mtftp]]\naddress = \"10.0.0.9\""),
            "x.toml:5: the MTFTP server 10.0.0.9 stands there twice; write it once",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(refused(text), *expected, "{text}");
    }
}

#[test]
fn domains_are_named_so_that_others_find_the_right_one() {
    let cases: &[(String, &str)] = &[
        (
            with("[domain]\nlist = \"campus\""),
            "x.toml:3: `domain.name` is `pxe`, as it is wherever nobody has given one; give this boot network's domain a name \
             that no other one of the site has: those of one name become one",
        ),
        (
            with("[domain]\nname = \"hall\"\nlist = \"hall\""),
            "x.toml:4: `domain.list` is `domain.name`; give the list of domains a name of its own, the same on every server of \
             the site",
        ),
        (
            with("[domain]\nalso = [\"1\", \"2\", \"3\", \"4\", \"5\", \"6\", \"7\", \"8\", \"9\"]"),
            "x.toml:3: `domain.also` names 9 domains; name 8 at most",
        ),
        (with("[domain]\nauthor = \"a\\u001bb\""), "x.toml:3: U+001B is a control character: leave it out"),
    ];
    for (text, expected) in cases {
        assert_eq!(refused(text), *expected, "{text}");
    }
}

#[test]
fn legacy_peers_are_hosts_and_wait_for_a_while() {
    let cases = [
        (
            "[query]\nlegacy_peers = [\"10.0.0.7\",\n\"239.1.1.1\"]",
            "x.toml:4: the legacy peer 239.1.1.1 is no host; write the address that its queries come from",
        ),
        ("[query]\nlegacy_wait_ms = 60001", "x.toml:3: `query.legacy_wait_ms` is 60001; write 1–60,000 ms"),
    ];
    for (text, expected) in cases {
        assert_eq!(refused(&with(text)), expected, "{text}");
    }
}

fn refused(text: &str) -> String {
    match parse(Path::new("x.toml"), text) {
        Ok(parsed) => panic!("accepted:\n{text}\n{parsed:?}"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn pools_that_cannot_be_used_are_refused() {
    let right = "take 239.255.0.0–239.255.254.255, 239.192.0.0–239.195.254.255, or a part of one";
    let pool = |first: &str, last: &str| with(&format!("[pool]\nfirst = \"{first}\"\nlast = \"{last}\""));
    let query = "\n[query]\ngroup = \"239.254.0.1\"";
    let cases: &[(String, String)] = &[
        (
            pool("239.255.9.0", "239.255.8.0"),
            "x.toml:3: the pool ends at 239.255.8.0, before it begins at 239.255.9.0; swap `first` and `last`".into(),
        ),
        (
            pool("239.255.0.0", "239.255.255.255").replace("[[mtftp]]", &format!("{query}\n[[mtftp]]")),
            format!(
                "x.toml:4: the pool 239.255.0.0–239.255.255.255 contains 239.255.255.0–239.255.255.255 (relative \
                 assignments of a scope, RFC 2365 § 9); {right}"
            ),
        ),
        (
            pool("224.0.1.0", "224.0.1.9").replace("[[mtftp]]", "[discovery]\ngroups = []\n[[mtftp]]"),
            format!(
                "x.toml:3: the pool 224.0.1.0–224.0.1.9 contains 224.0.1.0–224.0.1.255 (internetwork control, \
                 RFC 5771 § 5); {right}"
            ),
        ),
        (
            pool("238.128.0.9", "238.128.1.0"),
            format!(
                "x.toml:3: the pool 238.128.0.9–238.128.1.0 contains 238.128.0.0–238.128.0.255 (the Ethernet \
                 addresses of 224.0.0.0–224.0.0.255, RFC 1112 § 6.4); {right}"
            ),
        ),
        (
            pool("239.255.1.1", "239.255.1.1"),
            "x.toml:2: the pool has no address to give; make it longer, or exclude less; the pinned address is \
             always excluded"
                .into(),
        ),
        (
            with("[pool]\nttl = 0"),
            "x.toml:3: `pool.ttl` is 0: nobody would hear us; 1 stays on the link, more crosses routers".into(),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(refused(text), *expected, "{text}");
    }
}

#[test]
fn every_range_that_is_never_used_is_refused_at_both_ends() {
    for (first, last) in [
        ("224.0.0.0", "224.0.255.255"),
        ("224.2.0.0", "224.4.255.255"),
        ("232.0.0.0", "233.255.255.255"),
        ("239.63.255.0", "239.63.255.255"),
        ("239.195.255.0", "239.195.255.255"),
        ("239.255.255.0", "239.255.255.255"),
        ("225.0.0.0", "225.0.0.255"),
        ("239.128.0.0", "239.128.0.255"),
    ] {
        for end in [first, last] {
            let text = with(&format!(
                "[discovery]\ngroups = []\n[query]\ngroup = \"236.1.1.1\"\n[pool]\nfirst = \"{end}\"\nlast = \"{end}\""
            ));
            assert!(refused(&text).contains("contains"), "{text}");
        }
    }
}

#[test]
fn boot_items_that_cannot_be_served_are_refused() {
    let second = |lines: &str| and(&SECOND.replacen("type = 0x8001\n", lines, 1));
    let cases: &[(String, &str)] = &[
        (
            "interface = \"eth0\"\n".into(),
            "x.toml: there is no boot item; add [[item]] with `name` and `type`, and [[item.boot]] with `file`",
        ),
        (
            altered("[[mtftp]]\naddress = \"10.0.0.9\"\n", ""),
            "x.toml:5: nobody can get item \"debian\": there is no MTFTP server; add [[mtftp]] with its `address`",
        ),
        (
            altered("[[item.boot]]\nfile = \"boot.ipxe\"\n", ""),
            "x.toml:5: nobody can get item \"debian\": it has nothing to load; add [[item.boot]] with `file` after it",
        ),
        (altered("\"debian\"", "\"\""), "x.toml:5: \"\" is no name; write 1–64 printable characters"),
        (
            and(&SECOND.replace("second", "debian")),
            "x.toml:10: two items are called \"debian\"; name each differently",
        ),
        (
            second("type = 0x8002\nlayer = 0x8000\n"),
            "x.toml:12: layer 0x8000 asks for credentials; write a layer of 0–0x7fff",
        ),
        (
            second("type = 0x8002\nuser_class = \"\"\n"),
            "x.toml:12: a user class of 0 bytes fits no client; write 1–255 bytes, or leave it out",
        ),
        (
            second("type = 0x8002\nclients = [\"52:54:00\"]\n"),
            "x.toml:12: `52:54:00` names no client; write an Ethernet address like \"52:54:00:12:34:56\" or a \
             machine identifier like \"00112233-4455-6677-8899-aabbccddeeff\"",
        ),
        (
            second("type = 0x8002\nclients = [\n\"00000000-0000-0000-0000-000000000000\"]\n"),
            "x.toml:13: all zeros or all ones identify no machine; name the client by its Ethernet address",
        ),
        (
            second("type = 0x8002\nclients = [\n\"52:54:00:00:00:0a\",\n\"52-54-00-00-00-0A\"]\n"),
            "x.toml:14: this client stands there twice; write it once",
        ),
        (
            and(SECOND),
            "x.toml:13: nobody can get this of item \"second\": an earlier item answers instead; see item \
             \"debian\": type, layer, clients, profile and `arch` agree",
        ),
        (
            and("[[item.boot]]\nfile = \"b\"\narch = [7]"),
            "x.toml:10: nobody can get this of item \"debian\": an earlier one answers instead; see item \
             \"debian\": type, layer, clients, profile and `arch` agree",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(refused(text), *expected, "{text}");
    }
}

#[test]
fn boots_that_contradict_themselves_are_refused() {
    let boot = |lines: &str| and(lines);
    let cases: &[(String, &str)] = &[
        (
            boot("pinned = true"),
            "x.toml:9: `pinned` without a file to multicast; name the file with `multicast`, or leave `pinned` out",
        ),
        (
            boot("multicast = \"m\""),
            "x.toml:9: profile \"tftp\" loads nothing by multicast; write profile \"ipxe\", \"pxe-rom\" or \"mtftp-get\", or leave \
             `multicast` out",
        ),
        (with("[domain]\npreset = \"wlan\""), "x.toml:3: unknown preset `wlan`; did you mean `lan`?"),
        (boot("profile = \"ipx\""), "x.toml:9: unknown profile `ipx`; did you mean `ipxe`?"),
        (
            boot("profile = \"pxe-rom\"\nmulticast = \"boot.ipxe\"\npinned = true"),
            "x.toml:11: profile \"pxe-rom\" does not need the pinned tuple; these clients take any address of the pool: \
             leave `pinned` out",
        ),
        (
            boot("profile = \"pxe-rom\"\nmulticast = \"other\""),
            "x.toml:10: a client of profile \"pxe-rom\" loads one file, the boot file; name the same file in `file` and `multicast`",
        ),
        (
            boot("profile = \"pxe-rom\"\narch = [7]"),
            "x.toml:10: nobody can get this of item \"debian\": PXE ROMs have architecture 0; write arch = [0], or \
             profile \"tftp\"",
        ),
        (boot("also = [\n\"boot.ipxe\"]"), "x.toml:10: file \"boot.ipxe\" stands there twice; write it once"),
        (
            boot("servers = [\"10.0.0.9\",\n\"10.0.0.8\"]"),
            "x.toml:10: 10.0.0.8 is not among the MTFTP servers; add [[mtftp]] with this address; there are: 10.0.0.9",
        ),
        (
            boot("servers = [\"10.0.0.9\",\n\"10.0.0.9\"]"),
            "x.toml:10: 10.0.0.9 stands there twice; write it once",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(refused(text), *expected, "{text}");
    }
}

#[test]
fn file_names_have_one_spelling() {
    let cases = [
        ("", "is empty; name a file below the boot directory of the MTFTP server"),
        ("/a", "is absolute; write it relative to the boot directory of the MTFTP server"),
        ("a/../b", "leads upwards; write it without `..`"),
        ("a//b", "has an empty part; write it without `//`, `.` and a `/` at the end"),
        ("./a", "has an empty part; write it without `//`, `.` and a `/` at the end"),
        ("a/", "has an empty part; write it without `//`, `.` and a `/` at the end"),
        ("a\\\\b", "holds a backslash; write `/` between directories"),
        ("a\\u0000b", "holds a NUL; leave it out"),
    ];
    for (name, expected) in cases {
        let message = refused(&altered("boot.ipxe", name));
        assert!(message.starts_with("x.toml:8: file name \""), "{message}");
        assert!(message.ends_with(expected), "{message}");
    }
    let long = "x".repeat(256);
    let message = refused(&altered("boot.ipxe", &long));
    assert!(message.ends_with("is longer than 255 bytes; no packet has room for it: choose a shorter one"));
    parsed(&altered("boot.ipxe", long.strip_suffix('x').unwrap()));
    parsed(&altered("boot.ipxe", "...a/b..c/.d"));
}

#[test]
fn what_is_hardly_meant_is_a_warning() {
    let cases = [
        (
            altered("0x8001", "5"),
            "x.toml:6: type 0x0005 is not free for sites; choose one of 0x8001–0xfffe, unless clients ask for it",
        ),
        (
            and("profile = \"ipxe\"\nmulticast = \"m\""),
            "x.toml:10: iPXE cannot hear this multicast, and gets the file by plain TFTP; iPXE hears only the pinned \
             tuple: set pinned = true",
        ),
        (
            with("[pinned]\nclient_port = 3002"),
            "x.toml:2: the pinned tuple is 239.255.1.1:3002; iPXE hears nothing but 239.255.1.1:3001",
        ),
        (
            with("[pool]\nfirst = \"239.240.0.0\"\nlast = \"239.240.0.9\""),
            "x.toml:2: the pool 239.240.0.0–239.240.0.9 is not of the local or organization scope; \
             239.255.0.0–239.255.254.255 never leaves the site, by RFC 2365 § 6.1",
        ),
        (
            with("[pool]\nexclude = [\"239.1.2.3\"]"),
            "x.toml:3: 239.1.2.3 is excluded but not in the pool 239.255.0.0–239.255.254.255; leave it out, or \
             correct it",
        ),
    ];
    for (text, expected) in cases {
        let warnings: Vec<String> = parsed(&text).warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings, [expected], "{text}");
    }
}

#[test]
fn different_clients_classes_profiles_and_a_rest_may_share_an_item() {
    parsed(&and("profile = \"ipxe\"\n[[item.boot]]\nfile = \"b\""));
    parsed(&and("arch = [7]\n[[item.boot]]\nfile = \"b\"\narch = [9]\n[[item.boot]]\nfile = \"c\""));
    for line in ["user_class = \"lab\"", "clients = [\"52:54:00:00:00:01\"]", "layer = 1"] {
        parsed(&and(&SECOND.replacen("type = 0x8001", &format!("type = 0x8001\n{line}"), 1)));
    }
    let pinned = "profile = \"ipxe\"\nmulticast = \"m\"\npinned = true\n";
    parsed(&and(&format!("{pinned}{}{pinned}", SECOND.replace("8001", "8002"))));
}

#[test]
fn the_host_must_have_what_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let dirs = format!("state_dir = {0:?}\nrun_dir = {0:?}", temp.path());
    let here = with(&dirs).replace("eth0", "lo");
    let loaded = fit(parsed(&here)).unwrap();
    assert_eq!(loaded.config.address, Some(Text(Ipv4Addr::LOCALHOST)));
    let again = fit(parsed(&loaded.config.to_string())).unwrap();
    assert_eq!(again.config, loaded.config);

    let message = |text: &str| fit(parsed(text)).unwrap_err().to_string();
    let absent = message(&with(&dirs).replace("eth0", "nosuch0"));
    assert!(absent.starts_with("x.toml:1: there is no network interface `nosuch0`; there are: "), "{absent}");
    let foreign = message(&here.replace("state_dir", "address = \"10.1.2.3\"\nstate_dir"));
    assert_eq!(foreign, "x.toml:2: 10.1.2.3 is not an address of the network interface `lo`: 127.0.0.1/8");
    std::fs::write(temp.path().join("file"), "").unwrap();
    let unusable =
        message(&here.replacen(temp.path().to_str().unwrap(), &format!("{}/file", temp.path().display()), 1));
    assert!(unusable.starts_with("x.toml:2: ") && unusable.contains("is not a directory"), "{unusable}");
}

#[test]
fn a_boot_rom_whose_files_lie_elsewhere_is_warned_of() {
    let rom = and("profile = \"pxe-rom\"\nmulticast = \"boot.ipxe\"");
    let Parsed { config, document, .. } = parsed(&rom);
    let own = Ipv4Addr::new(10, 0, 0, 2);
    let warnings = check::warn_of_files_elsewhere(&config, &document, own);
    assert_eq!(
        warnings.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "x.toml:10: profile \"pxe-rom\" of item \"debian\" cannot use multicast: binld (10.0.0.2) and mtftpd do \
          not share an address, and a PXE ROM loads from whoever answered it; run mtftpd on 10.0.0.2; until then \
          these clients get plain TFTP"
        ]
    );
    let shared = Ipv4Addr::new(10, 0, 0, 9);
    assert_eq!(check::warn_of_files_elsewhere(&config, &document, shared), []);
}

#[test]
fn only_the_catalog_and_the_log_change_at_run_time() {
    let old = parsed(SMALL).config;
    let new = parsed(&with("[log]\nlevel = \"debug\"").replace("boot.ipxe", "other")).config;
    assert_eq!(old.restart_keys(&new), [""; 0]);
    let full = parsed(FULL).config;
    assert_eq!(
        old.restart_keys(&Config { interface: "eth0".to_owned(), ..full }),
        ["address", "state_dir", "run_dir", "discovery", "query", "control", "domain", "pool", "pinned"]
    );
}

proptest! {
    #[test]
    fn any_names_survive_printing(name in "[^\\p{C}]{1,16}", class in ".{1,40}", file in "[^/\\\\\u{0}]{3,40}") {
        let mut config = parsed(SMALL).config;
        config.item[0].name = name;
        config.item[0].user_class = Some(class);
        config.item[0].boot[0].file = Text(FileName::new(file.as_bytes()).unwrap());
        let printed = config.to_string();
        prop_assert_eq!(parsed(&printed).config, config, "{}", printed);
    }
}

#[test]
fn how_clients_are_treated_goes_to_the_server_only_if_it_says_something() {
    let policy = |transfer: &str| {
        let Parsed { config, .. } =
            parsed(&and(&format!("profile = \"mtftp-get\"\nmulticast = \"boot.ipxe\"\n{transfer}")));
        let Parsed { config: again, .. } = parsed(&config.to_string());
        assert_eq!(again, config, "what is printed is read as the same");
        config.catalog().items[0].boots[0].policy
    };
    assert_eq!(policy(""), Policy::default());
    assert_eq!(policy("transfer = { slow_below = 5, start_within_s = 7 }"), Policy::default());
    let slow =
        Policy { slow: SlowClients::SecondStream, silences: 5, rate_min: 500_000, ..Policy::default() };
    assert_eq!(policy("transfer = { slow = \"second-stream\" }"), slow);
    let start = Policy { start_clients: 9, start_within_s: 30, ..Policy::default() };
    assert_eq!(policy("transfer = { start_clients = 9 }"), start);
}

#[test]
fn treatments_that_cannot_be_are_refused() {
    let boot = |lines: &str| and(lines);
    let cases: &[(String, &str)] = &[
        (
            boot("transfer = { slow = \"drop-to-unicast\" }"),
            "x.toml:9: `transfer` without a file to multicast; name the file with `multicast`, or leave `transfer` out",
        ),
        (
            boot("profile = \"mtftp-get\"\nmulticast = \"boot.ipxe\"\ntransfer = { slow = \"drop\" }"),
            "x.toml:11: `drop` is nothing to do with slow clients; known here: `keep`, `drop-to-unicast`, `second-stream`",
        ),
        (
            boot(
                "profile = \"ipxe\"\nmulticast = \"m\"\npinned = true\ntransfer = { slow = \"second-stream\" }",
            ),
            "x.toml:12: on the pinned tuple iPXE must be kept, and be sent to at once: it would boot a file with holes; leave \
             `slow` and `start_clients` out",
        ),
        (
            boot("profile = \"pxe-rom\"\nmulticast = \"boot.ipxe\"\ntransfer = { start_clients = 2 }"),
            "x.toml:11: a PXE ROM waits for nobody: it falls back to plain TFTP; leave it out, or write profile \"mtftp-get\"",
        ),
        (
            boot(
                "profile = \"mtftp-get\"\nmulticast = \"boot.ipxe\"\ntransfer = { start_clients = 2, start_within_s = 9000 }",
            ),
            "x.toml:11: clients wait for each other for 9000 s; write 1–3600 seconds",
        ),
        (
            boot(
                "profile = \"mtftp-get\"\nmulticast = \"boot.ipxe\"\n\
                 transfer = { slow = \"second-stream\", slow_below = 0, slow_silences = 0 }",
            ),
            "x.toml:11: with `slow_below` and `slow_silences` 0 nobody is ever slow; give one of them a value, or leave `slow` out",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(refused(text), *expected, "{text}");
    }
}
