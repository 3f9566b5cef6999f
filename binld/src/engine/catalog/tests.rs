use super::*;
use wire::ServerType;
use wire::dhcp::RequestKind;
use wire::policy::Policy;

fn name(text: &str) -> FileName {
    FileName::new(text.as_bytes()).unwrap()
}

fn boot(profile: Profile, architectures: &[u16], file: &str) -> Boot {
    Boot {
        profile,
        architectures: architectures.to_vec(),
        file: name(file),
        multicast: None,
        pinned: false,
        also: Vec::new(),
        policy: Policy::default(),
        servers: vec![Ipv4Addr::new(10, 0, 0, 9)],
    }
}

fn item(name: &str, layer: u16, boots: Vec<Boot>) -> Item {
    Item {
        name: name.into(),
        boot_item: BootItem { server_type: ServerType(0x8001), layer: Layer(layer) },
        user_class: None,
        clients: Vec::new(),
        preclear: true,
        boots,
    }
}

fn request(architecture: u16, class: &[u8]) -> BootRequest {
    BootRequest {
        kind: RequestKind::Request,
        xid: 0,
        flags: 0,
        ciaddr: Ipv4Addr::new(10, 0, 0, 100),
        giaddr: Ipv4Addr::UNSPECIFIED,
        mac: Mac([2, 0, 0, 0, 0, 1]),
        architectures: vec![architecture],
        uuid: Some(Uuid([7; 16])),
        user_class: class.to_vec(),
        vendor: None,
    }
}

fn ask(catalog: &Catalog, request: &BootRequest, layer: u16) -> Option<String> {
    let wanted = BootItem { server_type: ServerType(0x8001), layer: Layer(layer) };
    catalog.find(request, wanted).map(|found| format!("{}/{}", found.item.name, found.boot.file))
}

#[test]
fn the_profile_follows_user_class_and_architecture() {
    assert_eq!(Profile::of(&request(0, b"iPXE")), Profile::Ipxe);
    assert_eq!(Profile::of(&request(7, b"\x04iPXE")), Profile::Ipxe);
    assert_eq!(Profile::of(&request(7, b"")), Profile::Tftp);
    assert_eq!(Profile::of(&request(0, b"")), Profile::PxeRom);
}

#[test]
fn a_better_profile_wins_wherever_it_stands() {
    let boots = vec![boot(Profile::Tftp, &[], "plain"), boot(Profile::Ipxe, &[], "script")];
    let catalog = Catalog { items: vec![item("a", 0, boots)], servers: Vec::new() };
    assert_eq!(ask(&catalog, &request(0, b"iPXE"), 0).as_deref(), Some("a/script"));
    assert_eq!(ask(&catalog, &request(0, b""), 0).as_deref(), Some("a/plain"));
    assert_eq!(ask(&catalog, &request(7, b""), 0).as_deref(), Some("a/plain"));
}

#[test]
fn an_architecture_that_is_not_listed_gets_silence() {
    let boots = vec![boot(Profile::Tftp, &[7, 9], "uefi")];
    let catalog = Catalog { items: vec![item("a", 0, boots)], servers: Vec::new() };
    assert_eq!(ask(&catalog, &request(9, b""), 0).as_deref(), Some("a/uefi"));
    assert_eq!(ask(&catalog, &request(0, b""), 0), None);
}

#[test]
fn a_missing_layer_falls_to_the_next_and_then_to_silence() {
    let plain = || vec![boot(Profile::Tftp, &[], "f")];
    let catalog =
        Catalog { items: vec![item("two", 2, plain()), item("five", 5, plain())], servers: Vec::new() };
    let client = request(0, b"");
    assert_eq!(ask(&catalog, &client, 0).as_deref(), Some("two/f"));
    assert_eq!(ask(&catalog, &client, 2).as_deref(), Some("two/f"));
    assert_eq!(ask(&catalog, &client, 3).as_deref(), Some("five/f"));
    assert_eq!(ask(&catalog, &client, 6), None);
    assert_eq!(ask(&catalog, &client, Layer::CREDENTIALS), None);
}

#[test]
fn single_clients_come_before_classes_and_classes_before_everybody() {
    let plain = || vec![boot(Profile::Tftp, &[], "f")];
    let mut class = item("class", 0, plain());
    class.user_class = Some(b"lab".to_vec());
    let mut single = item("single", 0, plain());
    single.clients = vec![ClientName::Mac(Mac([2, 0, 0, 0, 0, 1]))];
    let mut machine = item("machine", 0, plain());
    machine.clients = vec![ClientName::Uuid(Uuid([9; 16]))];
    let catalog =
        Catalog { items: vec![item("all", 0, plain()), class, single, machine], servers: Vec::new() };
    assert_eq!(ask(&catalog, &request(0, b"lab"), 0).as_deref(), Some("single/f"));
    let mut other = request(0, b"lab");
    other.mac = Mac([2, 0, 0, 0, 0, 2]);
    assert_eq!(ask(&catalog, &other, 0).as_deref(), Some("class/f"));
    other.user_class.clear();
    assert_eq!(ask(&catalog, &other, 0).as_deref(), Some("all/f"));
    other.uuid = Some(Uuid([9; 16]));
    assert_eq!(ask(&catalog, &other, 0).as_deref(), Some("machine/f"));
}

#[test]
fn another_type_gets_silence() {
    let catalog =
        Catalog { items: vec![item("a", 0, vec![boot(Profile::Tftp, &[], "f")])], servers: Vec::new() };
    let other = BootItem { server_type: ServerType(0x8002), layer: Layer(0) };
    assert!(catalog.find(&request(0, b""), other).is_none());
}
