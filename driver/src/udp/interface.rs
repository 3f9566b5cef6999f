//! Which network interface a daemon serves.

use std::net::Ipv4Addr;

use anyhow::{Context, bail};
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sys::socket::SockaddrStorage;

/// A network interface, and the address on it that is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// As `ip link` shows it.
    pub name: String,
    /// The kernel's number for it.
    pub index: u32,
    /// Our address on it.
    pub address: Ipv4Addr,
    /// Length of the prefix of that address, 0–32 bits: who lies in it is on the link.
    pub prefix_len: u8,
}

impl Interface {
    /// Looks for the interface `name`. `address` says which of its addresses is ours; without it there must be
    /// just one. On a loopback interface every address of its prefix will do.
    ///
    /// # Errors
    /// If there is no such interface, it is down, or the address cannot be told; the text says what there is.
    pub fn find(name: &str, address: Option<Ipv4Addr>) -> anyhow::Result<Self> {
        let all: Vec<InterfaceAddress> =
            getifaddrs().context("cannot list the network interfaces")?.collect();
        let ours: Vec<&InterfaceAddress> = all.iter().filter(|one| one.interface_name == name).collect();
        let Some(first) = ours.first() else {
            let mut names: Vec<&str> = all.iter().map(|one| one.interface_name.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            bail!("there is no network interface `{name}`; there are: {}", names.join(", "));
        };
        if !first.flags.contains(InterfaceFlags::IFF_UP) {
            bail!("the network interface `{name}` is down: `ip link set {name} up`");
        }
        let index =
            if_nametoindex(name).with_context(|| format!("the network interface `{name}` is gone"))?;
        let addresses: Vec<(Ipv4Addr, u8)> = ours.iter().filter_map(|one| with_prefix(one)).collect();
        let loopback = first.flags.contains(InterfaceFlags::IFF_LOOPBACK);
        let (address, prefix_len) = choose(name, &addresses, address, loopback)?;
        Ok(Self { name: name.to_owned(), index, address, prefix_len })
    }

    /// The only interface that is up, has an IPv4 address, and is not loopback.
    ///
    /// # Errors
    /// If there is none, or there are several; the text says what there is.
    pub fn only() -> anyhow::Result<Self> {
        let all = getifaddrs().context("cannot list the network interfaces")?;
        let usable = |one: &InterfaceAddress| {
            one.flags.contains(InterfaceFlags::IFF_UP)
                && !one.flags.contains(InterfaceFlags::IFF_LOOPBACK)
                && with_prefix(one).is_some()
        };
        let mut names: Vec<String> = all.filter(usable).map(|one| one.interface_name).collect();
        names.sort_unstable();
        names.dedup();
        match names.as_slice() {
            [name] => Self::find(name, None),
            [] => bail!("no network interface that is up has an IPv4 address"),
            several => bail!("there are several network interfaces, say which one: {}", several.join(", ")),
        }
    }

    /// The speed of the link in Mbit/s, if it tells: virtual ones and those without a cable do not.
    #[must_use]
    pub fn megabits(&self) -> Option<u32> {
        let told = std::fs::read_to_string(format!("/sys/class/net/{}/speed", self.name)).ok()?;
        told.trim().parse().ok().filter(|megabits| *megabits > 0)
    }

    /// Whether `address` is on the link: such hosts hear our multicast.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        within(self.address, self.prefix_len, address)
    }
}

fn choose(
    name: &str,
    addresses: &[(Ipv4Addr, u8)],
    wanted: Option<Ipv4Addr>,
    loopback: bool,
) -> anyhow::Result<(Ipv4Addr, u8)> {
    let list = || addresses.iter().map(|(one, len)| format!("{one}/{len}")).collect::<Vec<_>>().join(", ");
    match (wanted, addresses) {
        (_, []) => bail!("the network interface `{name}` has no IPv4 address"),
        (None, [one]) => Ok(*one),
        (None, _) => bail!("the network interface `{name}` has several addresses, say which one: {}", list()),
        (Some(wanted), _) => addresses
            .iter()
            .find(|(one, _)| *one == wanted)
            .or_else(|| addresses.iter().find(|(one, len)| loopback && within(*one, *len, wanted)))
            .map(|(_, len)| (wanted, *len))
            .with_context(|| {
                format!("{wanted} is not an address of the network interface `{name}`: {}", list())
            }),
    }
}

fn within(one: Ipv4Addr, prefix_len: u8, other: Ipv4Addr) -> bool {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix_len.min(32))).unwrap_or(0);
    (one.to_bits() ^ other.to_bits()) & mask == 0
}

fn with_prefix(one: &InterfaceAddress) -> Option<(Ipv4Addr, u8)> {
    let ip = |of: &Option<SockaddrStorage>| of.as_ref()?.as_sockaddr_in().map(|address| address.ip());
    let mask = ip(&one.netmask).map_or(32, |mask| mask.to_bits().count_ones());
    Some((ip(&one.address)?, u8::try_from(mask).unwrap_or(32)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_found_with_any_of_its_addresses() {
        let lo = Interface::find("lo", None).unwrap();
        assert_eq!((lo.address, lo.prefix_len), (Ipv4Addr::LOCALHOST, 8));
        assert_eq!(lo.index, if_nametoindex("lo").unwrap());
        let other = Ipv4Addr::new(127, 9, 9, 9);
        assert_eq!(Interface::find("lo", Some(other)).unwrap(), Interface { address: other, ..lo.clone() });
        assert!(lo.contains(other));
        assert!(!lo.contains(Ipv4Addr::new(128, 0, 0, 1)));
    }

    #[test]
    fn what_is_wrong_is_said_with_what_there_is() {
        let missing = Interface::find("nosuch0", None).unwrap_err().to_string();
        assert!(missing.contains("`nosuch0`") && missing.contains("lo"), "{missing}");
        let foreign = Interface::find("lo", Some(Ipv4Addr::new(10, 1, 2, 3))).unwrap_err().to_string();
        assert!(foreign.contains("10.1.2.3") && foreign.contains("127.0.0.1/8"), "{foreign}");
    }

    #[test]
    fn several_addresses_want_a_choice() {
        let (a, b) = ((Ipv4Addr::new(10, 0, 0, 1), 24), (Ipv4Addr::new(10, 0, 1, 1), 25));
        let asked = choose("eth0", &[a, b], None, false).unwrap_err().to_string();
        assert!(asked.contains("10.0.0.1/24, 10.0.1.1/25"), "{asked}");
        assert_eq!(choose("eth0", &[a, b], Some(b.0), false).unwrap(), b);
        assert!(choose("eth0", &[a], Some(Ipv4Addr::new(10, 0, 0, 9)), false).is_err());
        assert!(choose("eth0", &[], None, false).unwrap_err().to_string().contains("no IPv4 address"));
    }

    #[test]
    fn prefixes_of_every_length_work() {
        let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        assert!(within(a, 0, Ipv4Addr::BROADCAST));
        assert!(within(a, 30, b) && !within(a, 31, b) && !within(a, 32, b) && within(a, 32, a));
    }
}
