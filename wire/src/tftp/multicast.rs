//! The value of the option `multicast` in an OACK (RFC 2090, *Multicast Option Specification*): `address,port,mc`.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::ids::GroupAddr;

/// What an OACK tells a client of a multicast transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MulticastAnswer {
    /// Where the data goes: class-D address and UDP port. A later OACK may leave both out, which keeps them.
    pub group: Option<SocketAddrV4>,
    /// Whether the client is the master from now on: it ACKs the block before its first missing one, and then each
    /// block. Any other client only listens.
    pub is_master: bool,
}

impl MulticastAnswer {
    /// Reads the value; `None` if it is not of this form. Address and port stand there both or not at all.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let mut parts = value.split(',');
        let (address, port, master) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() {
            return None;
        }
        let is_master = match master {
            "0" => false,
            "1" => true,
            _ => return None,
        };
        let group = match (address, port) {
            ("", "") => None,
            (address, port) => {
                let group = GroupAddr::new(address.parse::<Ipv4Addr>().ok()?)?;
                let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
                let port = port.parse::<u16>().ok().filter(|&port| is_number && port > 0)?;
                Some(SocketAddrV4::new(group.ip(), port))
            }
        };
        Some(Self { group, is_master })
    }
}

impl fmt::Display for MulticastAnswer {
    /// The value as [`Self::parse`] reads it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let master = u8::from(self.is_master);
        match self.group {
            Some(group) => write!(f, "{},{},{master}", group.ip(), group.port()),
            None => write!(f, ",,{master}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_read_as_it_is_written() {
        let group = Some(SocketAddrV4::new(Ipv4Addr::new(239, 255, 7, 1), 1758));
        for (text, group, is_master) in [
            ("239.255.7.1,1758,1", group, true),
            ("239.255.7.1,1758,0", group, false),
            (",,1", None, true),
            (",,0", None, false),
        ] {
            let answer = MulticastAnswer { group, is_master };
            assert_eq!(MulticastAnswer::parse(text), Some(answer), "{text}");
            assert_eq!(answer.to_string(), text);
        }
    }

    #[test]
    fn anything_else_is_none() {
        for text in [
            "",
            ",",
            ",,",
            ",,2",
            ",,1,",
            "239.255.7.1,1758",
            "239.255.7.1,,1",
            ",1758,1",
            "10.0.0.1,1758,1",
            "239.255.7.1,0,1",
            "239.255.7.1,65536,1",
            "239.255.7.1,+1,1",
            "239.255.7.1, 1758,1",
        ] {
            assert_eq!(MulticastAnswer::parse(text), None, "{text}");
        }
    }
}
