use super::*;

fn fails(text: &str) -> String {
    parse(Path::new("x.toml"), text).map(|(config, _)| config).unwrap_err().to_string()
}

#[test]
fn what_is_printed_parses_back() {
    let full = "interface = \"br0\"\naddress = \"10.0.0.9\"\nboot_dir = \"/b\"\nstate_dir = \"/s\"\nrun_dir = \"/r\"\ngrace_s = 7\n\
        references = \"forever\"\n\
        [tftp]\nport = 1069\ntransfer_port = 1070\nblock_size_max = 512\nwindow_size_max = 4\nrun_ahead = \"all\"\nrollover = 1\nstreams = 3\n\
        [mtftp]\npinned_group = \"239.255.1.2\"\npinned_client_port = 3002\npinned_port = 9\nports = [10, 11]\nttl = 4\n\
        [query]\ngroup = \"239.255.255.16\"\nport = 12\n[control]\nport = 13\n\
        [domain]\nname = \"attic\"\nport = 14\ncontacts = [\"10.1.0.1:4016\"]\npreset = \"wan\"\nauthor = \"rack 7\"\nnotes = false\n\
        [log]\nlevel = \"info,mtftp=debug\"\njson = true\n";
    for text in ["interface = \"eth0\"\n", full] {
        let (config, _) = parse(Path::new("x.toml"), text).unwrap();
        let (again, _) = parse(Path::new("x.toml"), &config.to_string()).unwrap();
        assert_eq!(again, config);
    }
    // Nothing of the full text is lost or replaced by a default.
    let (config, _) = parse(Path::new("x.toml"), full).unwrap();
    assert_eq!(
        config.to_string().lines().count(),
        full.lines().count() + config.to_string().matches("\n\n").count()
    );
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let (config, _) = parse(Path::new("x.toml"), "interface = \"eth0\"\n").unwrap();
    let (engine, default) = (config.engine(), EngineConfig::default());
    assert_eq!(engine.author.to_string(), host::name());
    assert_eq!(EngineConfig { author: default.author.clone(), tells: false, ..engine }, default);
    assert!(config.to_string().contains("references = \"lease\"\n"), "{config}");
    assert_eq!((config.tftp.port, config.query.port, config.control.port), (69, 4015, 4017));
    assert_eq!((config.domain.name.as_str(), config.domain.port), ("pxe", 4016));
    assert_eq!((config.mtftp.pinned_port, config.mtftp.ports), (1759, vec![1760]));
}

#[test]
fn wrong_configurations_say_where_and_what_to_do() {
    let table = [
        ("interfase = \"eth0\"\n", "x.toml:1: unknown key `interfase`; did you mean `interface`?"),
        ("interface = \"e\"\n[tftp]\nprot = 1\n", "x.toml:3: unknown key `prot`; did you mean `port`?"),
        ("interface = \"e\"\n[tftp]\nport = 0\n", "x.toml:3: `tftp.port` is 0; write a port of 1–65535"),
        (
            "interface = \"e\"\n[control]\nport = 4015\n",
            "x.toml:3: `query.port` and `control.port` are both 4015; give each a port of its own",
        ),
        (
            "interface = \"e\"\n[control]\nport = 4016\n",
            "x.toml:3: `domain.port` and `control.port` are both 4016; give each a port of its own",
        ),
        (
            "interface = \"e\"\n[domain]\ncontact = []\n",
            "x.toml:3: unknown key `contact`; did you mean `contacts`?",
        ),
        (
            "interface = \"e\"\n[mtftp]\nports = [1760, 1759]\n",
            "x.toml:3: `mtftp.ports.1` and `mtftp.pinned_port` are both 1759; give each a port of its own",
        ),
        (
            "interface = \"e\"\n[tftp]\ntransfer_port = 69\n",
            "x.toml:3: `tftp.port` and `tftp.transfer_port` are both 69; give each a port of its own",
        ),
        (
            "interface = \"e\"\n[mtftp]\nports = []\n",
            "x.toml:3: `mtftp.ports` is empty; name at least one port, such as 1760",
        ),
        (
            "interface = \"e\"\n[tftp]\nblock_size_max = 9000\n",
            "x.toml:3: `tftp.block_size_max` is 9000; write 512–1468 bytes",
        ),
        (
            "interface = \"e\"\n[tftp]\nwindow_size_max = 0\n",
            "x.toml:3: `tftp.window_size_max` is 0; write 2–64 blocks, or 1 to grant no windows",
        ),
        (
            "interface = \"e\"\n[tftp]\nwindow_size_max = 65\n",
            "x.toml:3: `tftp.window_size_max` is 65; write 2–64 blocks, or 1 to grant no windows",
        ),
        (
            "interface = \"e\"\n[tftp]\nrollover = 2\n",
            "x.toml:3: `tftp.rollover` is 2; write 0 or 1, the number after 65535",
        ),
        (
            "interface = \"e\"\n[query]\ngroup = \"239.255.1.1\"\n",
            "x.toml:3: `mtftp.pinned_group` and `query.group` are both 239.255.1.1; queries need an address that never \
             carries a transfer",
        ),
        (
            "interface = \"e\"\ngrace_s = 3601\n",
            "x.toml:2: `grace_s` is 3601; write 0–3600 seconds; 90 gives boot servers time to come back",
        ),
        (
            "interface = \"e\"\n[mtftp]\nttl = 0\n",
            "x.toml:3: `mtftp.ttl` is 0: nothing would leave this host; write 1 to stay on the link, or more",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(fails(text), expected);
    }
    assert!(
        fails("interface = \"e\"\n[query]\ngroup = \"10.0.0.1\"\n")
            .starts_with("x.toml:3: 10.0.0.1 is not a multicast")
    );
    let wrong = fails("interface = \"e\"\nreferences = \"never\"\n");
    assert!(wrong.starts_with("x.toml:2: unknown value `never`") && wrong.contains("`forever`"), "{wrong}");
    assert!(fails("interface = \"e\"\n[log]\nlevel = \"loud\"\n").starts_with("x.toml:3: log level `loud`"));
}

#[test]
fn what_the_host_does_not_have_is_refused_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mtftpd.toml");
    let good = format!(
        "interface = \"lo\"\naddress = \"127.0.0.1\"\nboot_dir = \"{0}\"\nstate_dir = \"{0}\"\nrun_dir = \"{0}\"\n",
        dir.path().display()
    );
    let load_text = |text: &str| {
        std::fs::write(&file, text).unwrap();
        load(&file).map_err(|error| error.to_string())
    };
    let loaded = load_text(&good).unwrap();
    assert_eq!(loaded.config.address, Some(Text(Ipv4Addr::LOCALHOST)));
    let missing = good.replacen("boot_dir = \"", "boot_dir = \"/nonexistent", 1);
    let error = load_text(&missing).unwrap_err();
    assert!(error.contains("mtftpd.toml:3: cannot read directory /nonexistent"), "{error}");
    let error = load_text(&good.replace("\"lo\"", "\"nosuch0\"")).unwrap_err();
    assert!(error.contains("mtftpd.toml:1: there is no network interface `nosuch0`"), "{error}");
    let error = load_text(&good.replace("127.0.0.1", "198.51.100.1")).unwrap_err();
    assert!(error.contains("mtftpd.toml:"), "{error}");
}

#[test]
fn how_long_references_last_reaches_the_core_and_changes_only_at_a_start() {
    let read = |text: &str| parse(Path::new("x.toml"), text).unwrap().0;
    let lease = read("interface = \"eth0\"\n");
    let forever = read("interface = \"eth0\"\nreferences = \"forever\"\n");
    assert_eq!(lease.engine().references, ReferencePolicy::Lease);
    assert_eq!(forever.engine().references, ReferencePolicy::Forever);
    assert_eq!(lease.fixed_changes(&forever), ["references"]);
}

/// The port of the group belongs to the BINLD that may share our address: only the group is bound.
#[test]
fn the_domain_reaches_the_core_and_its_group_has_a_door() {
    let read = |text: &str| parse(Path::new("x.toml"), text).unwrap().0;
    let plain = read("interface = \"eth0\"\n");
    let text = "interface = \"eth0\"\n[query]\ngroup = \"239.255.255.16\"\n\
        [domain]\nname = \"attic\"\nport = 14\ncontacts = [\"10.1.0.1:4016\"]\n";
    let attic = read(text);
    assert_eq!(plain.fixed_changes(&attic), ["query", "domain"]);
    let engine = attic.engine();
    assert_eq!((engine.domain, engine.control_port), (DomainId::of("attic"), 4017));
    assert_eq!(engine.domain_group.to_string(), "239.255.255.16:14");
    assert_eq!(engine.contacts, ["10.1.0.1:4016".parse().unwrap()]);
    let lo = Interface::find("lo", None).unwrap();
    let of_group = |config: &Config| -> Vec<(Role, u16, Vec<Ipv4Addr>)> {
        let doors = config.doors(&lo).into_iter().filter(|door| !door.own);
        doors.map(|door| (door.role, door.port, door.groups)).collect()
    };
    let group = vec![Ipv4Addr::new(239, 255, 255, 16)];
    assert_eq!(of_group(&attic), [(Role::Query, 4015, group.clone()), (Role::Domain, 14, group)]);
}

#[test]
fn windows_and_rollover_reach_the_core_and_change_only_at_a_start() {
    let read = |text: &str| parse(Path::new("x.toml"), text).unwrap().0;
    let plain = read("interface = \"eth0\"\n");
    let other = read("interface = \"eth0\"\n[tftp]\nwindow_size_max = 1\nrollover = 1\n");
    assert_eq!((plain.engine().window_size_max, plain.engine().rollover), (64, Rollover::Zero));
    assert_eq!((other.engine().window_size_max, other.engine().rollover), (1, Rollover::One));
    assert_eq!(plain.fixed_changes(&other), ["tftp"]);
}
