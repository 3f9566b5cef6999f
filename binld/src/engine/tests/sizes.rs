//! Files that are too large for what a client speaks, or for any multicast.

use super::*;

const PXE_MTFTP_MAX: u64 = 33_553_919;

fn boot(profile: Profile, server: u8) -> Boot {
    let mut boot = ipxe_boot(profile == Profile::Ipxe, &[server]);
    boot.profile = profile;
    if profile != Profile::Ipxe {
        boot.file = name("initrd.img");
        boot.also.clear();
    }
    boot
}

fn host(profile: Profile, last: u8, file: u64, multicast_max: u64) -> Host {
    let script = Script { sizes: Sizes { file, multicast_max }, ..everywhere(&[last]) };
    let mut host = Host::start(vec![item(boot(profile, last))], script);
    host.run_for(SETTLED);
    host
}

fn too_large(host: &Host) -> usize {
    host.events.iter().filter(|event| matches!(event, Event::TooLarge { .. })).count()
}

/// How a client is answered.
fn offer(host: &mut Host, class: &[u8]) -> Offer {
    host.hear(Role::Discovery, CLIENT, &request(9, *CLIENT.ip(), Ipv4Addr::UNSPECIFIED, class));
    host.run_for(Duration::from_secs(1));
    let answered = host.events.iter().rev().find_map(|event| {
        let Event::Answered { offer, .. } = event else { return None };
        Some(*offer)
    });
    answered.unwrap()
}

#[test]
fn a_file_that_the_server_cannot_multicast_goes_by_plain_tftp_and_that_is_said_once() {
    let mut host = host(Profile::Ipxe, 21, PXE_MTFTP_MAX + 1, PXE_MTFTP_MAX);
    assert_eq!(offer(&mut host, b"iPXE"), Offer::PlainTftp(WhyPlain::TooLarge));
    assert_eq!(host.replies().last().unwrap().1, "tftp://10.77.0.21/initrd.img");
    host.run_for(Duration::from_secs(600));
    assert_eq!(too_large(&host), 1, "{:?}", host.events);
    let status = host.engine.status(host.now);
    assert!(status.claims.is_empty(), "no address is kept for it: {:?}", host.states());
    let shown = status.files.iter().find(|file| file.content.file == name("initrd.img")).unwrap();
    assert_eq!((shown.multicast_max, shown.usable), (Some(PXE_MTFTP_MAX), true));
    // It is replaced by a smaller one.
    host.script.sizes.file = PXE_MTFTP_MAX;
    host.run_for(Duration::from_secs(600));
    assert_eq!(host.states(), [("10.77.0.21:initrd.img".to_owned(), StateName::Held)]);
    assert!(matches!(offer(&mut host, b"iPXE"), Offer::Multicast(_)));
    // And by a larger one again.
    host.script.sizes.file = PXE_MTFTP_MAX + 1;
    host.run_for(Duration::from_secs(600));
    assert_eq!((too_large(&host), host.states()), (2, vec![]));
    assert_eq!(offer(&mut host, b"iPXE"), Offer::PlainTftp(WhyPlain::TooLarge));
}

#[test]
fn firmware_is_not_told_an_address_on_which_only_rfc_2090_can_carry_the_file() {
    for (size, expected) in
        [(PXE_MTFTP_MAX, None), (PXE_MTFTP_MAX + 1, Some(Offer::PlainTftp(WhyPlain::TooLarge)))]
    {
        let mut host = host(Profile::PxeRom, 11, size, 96_205_379);
        assert_eq!(host.states(), [("10.77.0.11:initrd.img".to_owned(), StateName::Held)]);
        let offer = offer(&mut host, b"");
        match expected {
            Some(expected) => assert_eq!(offer, expected),
            None => assert!(matches!(offer, Offer::Multicast(_)), "{offer:?}"),
        }
    }
}
