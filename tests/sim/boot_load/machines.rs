//! What a machine of a load says, and what it must be told. Bytes in, bytes out; no I/O.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;

use super::{ADDRESSES, Load, TOGETHER, address};
use crate::pxe_client::{Answer, DISCOVERY_PORT, Firmware, Form, Machine};

/// Where a BOOTP message has them.
const XID: Range<usize> = 4..8;
const CIADDR: Range<usize> = 12..16;
const YIADDR: Range<usize> = 16..20;
const MAC: Range<usize> = 28..34;
/// So that a transaction id is not a number that a server might have from elsewhere.
const XID_MASK: u32 = 0x5eed_0000;

/// All of them, by number.
#[derive(Debug)]
pub(super) struct Machines {
    server: Ipv4Addr,
    file: &'static str,
    multicast: bool,
    /// A question; what tells machines apart is put in.
    question: Vec<u8>,
    uuid_at: usize,
    /// What was told first and found right, and where it has the machine's identifier.
    answer: Option<(Vec<u8>, Option<usize>)>,
}

impl Machines {
    pub(super) fn new(load: &Load, server: Ipv4Addr) -> Self {
        let any = Machine::new(Firmware::Rom, address(0));
        let question = any.question(Form::Request, load.server_type, 0);
        let uuid_at = find(&question, &any.uuid()).expect("a machine tells its identifier");
        Self { server, file: load.file, multicast: load.multicast, question, uuid_at, answer: None }
    }

    /// Which socket has the address of a machine.
    pub(super) fn socket(&self, number: usize) -> usize {
        number / TOGETHER % ADDRESSES
    }

    /// What a machine asks.
    pub(super) fn question(&mut self, number: usize) -> &[u8] {
        let at = address(self.socket(number)).octets();
        put(&mut self.question, XID, &xid(number).to_be_bytes());
        put(&mut self.question, CIADDR, &at);
        put(&mut self.question, MAC, &mac(number));
        let uuid_at = self.uuid_at;
        put(&mut self.question, uuid_at..uuid_at + 16, &uuid(number));
        &self.question
    }

    /// Which machine is told this.
    ///
    /// # Errors
    /// If it must not be told that, or nobody must.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> Result<usize, String> {
        let word = bytes.get(XID).and_then(|word| word.try_into().ok()).map(u32::from_be_bytes);
        let number = (word.ok_or("cut short")? ^ XID_MASK) as usize;
        let at = address(self.socket(number)).octets();
        if let Some((answer, uuid_at)) = &mut self.answer {
            put(answer, XID, &xid(number).to_be_bytes());
            put(answer, YIADDR, &at);
            put(answer, MAC, &mac(number));
            if let Some(uuid_at) = *uuid_at {
                put(answer, uuid_at..uuid_at + 16, &uuid(number));
            }
            if answer == bytes {
                return Ok(number);
            }
        }
        self.read(number, bytes).map_err(|what| format!("machine {number}: {what}"))?;
        self.answer = Some((bytes.to_vec(), find(bytes, &uuid(number))));
        Ok(number)
    }

    /// Whether this answer is right, read strictly.
    fn read(&self, number: usize, bytes: &[u8]) -> Result<(), String> {
        let answer = Answer::read(SocketAddrV4::new(self.server, DISCOVERY_PORT), bytes)?;
        let told = (answer.mac.as_slice(), answer.yiaddr);
        let right = (&mac(number)[..], address(self.socket(number)));
        if told != right {
            return Err(format!("told {told:?}, not {right:?}"));
        }
        let own = [&[0][..], &uuid(number)].concat();
        if answer.option(97).is_some_and(|told| told != own) {
            return Err("another one's machine identifier".to_owned());
        }
        if answer.file != self.file || answer.siaddr != self.server {
            return Err(format!("told {:?} of {}", answer.file, answer.siaddr));
        }
        if answer.multicast().is_some() != self.multicast {
            return Err(format!("multicast: {:?}", answer.multicast()));
        }
        Ok(())
    }
}

fn xid(number: usize) -> u32 {
    number as u32 ^ XID_MASK
}

fn mac(number: usize) -> [u8; 6] {
    let [_, a, b, c] = (number as u32).to_be_bytes();
    [0x52, 0x54, 0, a, b, c]
}

fn uuid(number: usize) -> [u8; 16] {
    let mut uuid = *b"pxemc-boot-load\0";
    uuid[12..].copy_from_slice(&(number as u32).to_be_bytes());
    uuid
}

fn put(bytes: &mut [u8], at: Range<usize>, part: &[u8]) {
    if let Some(place) = bytes.get_mut(at) {
        place.copy_from_slice(part);
    }
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|there| there == part)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::boot_load::Pace;
    use binld::engine::answer::{Answer as Told, MulticastOffer};
    use binld::engine::catalog::Profile;
    use binld::engine::claims::Placement;
    use wire::FileName;
    use wire::configure::Ports;
    use wire::dhcp::BootRequest;

    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 31);

    fn machines(multicast: bool) -> Machines {
        let load = Load {
            machines: 300_000,
            pace: Pace::Over(Duration::from_secs(2)),
            server_type: 0x8000,
            file: "rom.img",
            multicast,
            core: 0,
        };
        Machines::new(&load, SERVER)
    }

    fn told(question: &[u8], file: &[u8]) -> Vec<u8> {
        let request = BootRequest::decode(question).unwrap();
        let ports = Ports { client: 4100, server: 4200 };
        let at = Placement { group: "239.255.3.4".parse().unwrap(), ports };
        let file = FileName::new(file).unwrap();
        let answer = Told {
            boot_server: SERVER,
            file_server: SERVER,
            boot_item: request.vendor.clone().unwrap().boot_item.unwrap(),
            file: file.clone(),
            profile: Profile::PxeRom,
            multicast: Some(MulticastOffer::Held { file, at }),
        };
        answer.to_reply(&request, request.ciaddr).encode().unwrap()
    }

    #[test]
    fn each_machine_knows_its_own_answer_from_another_ones() {
        let mut machines = machines(true);
        for number in [0, 31, 32, 65_536, 299_999] {
            let question = machines.question(number).to_vec();
            let answer = told(&question, b"rom.img");
            assert_eq!(machines.hear(&answer), Ok(number));
            let uuid_at = find(&answer, &uuid(number)).unwrap();
            for at in [XID.start + 3, YIADDR.start + 3, 20, MAC.start + 5, 108, uuid_at + 15] {
                let mut other = answer.clone();
                other[at] ^= 1;
                assert!(machines.hear(&other).is_err(), "byte {at}");
            }
            assert_eq!(machines.hear(&answer), Ok(number));
        }
    }

    #[test]
    fn another_file_or_none_by_multicast_is_wrong() {
        let question = machines(true).question(7).to_vec();
        assert!(machines(true).hear(&told(&question, b"other.img")).is_err());
        assert!(machines(false).hear(&told(&question, b"rom.img")).is_err());
    }
}
