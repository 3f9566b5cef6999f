//! The shape of a domain: who hears whom, by the records in which members name their neighbours (R004.17, R004.31).
//!
//! Members of one link hear each other by multicast, so they are one hop apart; a neighbour beyond it is one hop away as well,
//! if both say so: of two whose link has gone down only one may have noticed.
//!
//! ```text
//!   link 10.0.1.0/24         link 10.0.2.0/24
//!   a ── b ── c ─────────────── d ── e               a to e: 3 hops
//!      (each other)
//! ```
//! The source counts hops without saying how they are found. We see the whole graph, so every member knows how far the
//! farthest one is, and whether somebody who is known to live is not connected at all.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use wire::ServerId;
use wire::record::Neighbours;

/// One member.
#[derive(Debug, Clone, Default)]
struct Node {
    /// Its link, by number.
    link: usize,
    /// Its neighbours beyond it, by number.
    neighbours: Vec<usize>,
}

/// Who hears whom.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// In order of name; a member's place is its number.
    names: Vec<ServerId>,
    nodes: Vec<Node>,
    /// The members of each link.
    links: Vec<Vec<usize>>,
}

/// The network in which that address is.
const fn network(address: Ipv4Addr, prefix_len: u8) -> u32 {
    match u32::MAX.checked_shl(32 - prefix_len as u32) {
        Some(mask) => address.to_bits() & mask,
        None => 0,
    }
}

impl Graph {
    /// The graph of those members, with where their control messages come from. Who names no prefix is on the link of a
    /// member that does and has it within, or alone.
    #[must_use]
    pub fn new(members: &BTreeMap<ServerId, Ipv4Addr>, told: &BTreeMap<ServerId, &Neighbours>) -> Self {
        let names: Vec<ServerId> = members.keys().copied().collect();
        let prefixes: Vec<(u32, u8)> = {
            let prefix = |(server, it): (&ServerId, &&Neighbours)| {
                Some((network(*members.get(server)?, it.prefix_len), it.prefix_len))
            };
            let mut all: Vec<_> = told.iter().filter_map(prefix).collect();
            // The longest prefix that fits is the link.
            all.sort_unstable_by_key(|(network, prefix_len)| (std::cmp::Reverse(*prefix_len), *network));
            all.dedup();
            all
        };
        let mut numbers: BTreeMap<(u32, u8), usize> = BTreeMap::new();
        let mut links: Vec<Vec<usize>> = Vec::new();
        let mut nodes: Vec<Node> = Vec::new();
        for (number, (server, address)) in members.iter().enumerate() {
            let own = told.get(server).map(|it| (network(*address, it.prefix_len), it.prefix_len));
            let within = || prefixes.iter().find(|(net, prefix_len)| network(*address, *prefix_len) == *net);
            let key = own.or_else(|| within().copied()).unwrap_or((address.to_bits(), 32));
            let link = *numbers.entry(key).or_insert_with(|| {
                links.push(Vec::new());
                links.len() - 1
            });
            if let Some(link) = links.get_mut(link) {
                link.push(number);
            }
            let names_me = |other: &ServerId| told.get(other).is_some_and(|it| it.servers.contains(server));
            let mine = told.get(server).map(|it| it.servers.as_slice()).unwrap_or_default();
            let both = mine.iter().filter(|other| names_me(other));
            let neighbours = both.filter_map(|other| names.binary_search(other).ok()).collect();
            nodes.push(Node { link, neighbours });
        }
        Self { names, nodes, links }
    }

    /// How many hops each member is away from that one, in order of name; `None` for who is not connected. Empty if it is
    /// no member.
    #[must_use]
    pub fn hops(&self, from: ServerId) -> Vec<(ServerId, Option<u32>)> {
        let Ok(from) = self.names.binary_search(&from) else { return Vec::new() };
        let hops = self.hops_of(from);
        self.names.iter().copied().zip(hops).collect()
    }

    fn hops_of(&self, from: usize) -> Vec<Option<u32>> {
        let mut hops: Vec<Option<u32>> = vec![None; self.nodes.len()];
        let mut heard: Vec<bool> = vec![false; self.links.len()];
        let mut ring = vec![from];
        let mut away = 0;
        while !ring.is_empty() {
            let mut next = Vec::new();
            for number in ring {
                match hops.get_mut(number) {
                    Some(hops) if hops.is_none() => *hops = Some(away),
                    Some(_) | None => continue,
                }
                let Some(node) = self.nodes.get(number) else { continue };
                next.extend(&node.neighbours);
                if let Some(heard) = heard.get_mut(node.link)
                    && !std::mem::replace(heard, true)
                {
                    next.extend(self.links.get(node.link).into_iter().flatten());
                }
            }
            ring = next;
            away += 1;
        }
        hops
    }

    /// The most hops between two members that are connected.
    #[must_use]
    pub fn diameter(&self) -> u32 {
        // All of a link that have no neighbour beyond it are as far from everybody.
        let ends = |number: &usize| {
            let Some(node) = self.nodes.get(*number) else { return false };
            let first = self.links.get(node.link).and_then(|link| {
                link.iter().find(|other| self.nodes.get(**other).is_some_and(|it| it.neighbours.is_empty()))
            });
            !node.neighbours.is_empty() || first == Some(number)
        };
        let numbers = (0..self.nodes.len()).filter(ends);
        numbers.flat_map(|number| self.hops_of(number)).flatten().max().unwrap_or(0)
    }

    /// How many members are connected with that one, itself among them, and how many hops away the farthest is.
    #[must_use]
    pub fn farthest(&self, from: ServerId) -> (usize, u32) {
        let hops = self.hops(from).into_iter().filter_map(|(_, hops)| hops);
        hops.fold((0, 0), |(count, most), hops| (count + 1, most.max(hops)))
    }

    /// How many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether there is a way from everybody to everybody.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.names.first().is_none_or(|first| self.farthest(*first).0 == self.len())
    }

    /// The same without the link between those two.
    #[must_use]
    pub fn without(&self, one: ServerId, other: ServerId) -> Self {
        let mut graph = self.clone();
        let (one, other) = (self.names.binary_search(&one), self.names.binary_search(&other));
        if let (Ok(one), Ok(other)) = (one, other) {
            for (from, to) in [(one, other), (other, one)] {
                if let Some(node) = graph.nodes.get_mut(from) {
                    node.neighbours.retain(|it| *it != to);
                }
            }
        }
        graph
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> ServerId {
        ServerId([number; 16])
    }

    /// Members by (number, third octet of the address), and who names whom.
    fn graph(members: &[(u8, u8)], named: &[(u8, &[u8])]) -> Graph {
        let addresses =
            members.iter().map(|(number, link)| (id(*number), Ipv4Addr::new(10, 0, *link, *number)));
        let told: Vec<(ServerId, Neighbours)> = named
            .iter()
            .map(|(number, others)| {
                let servers = others.iter().map(|other| id(*other)).collect();
                (id(*number), Neighbours { prefix_len: 24, servers })
            })
            .collect();
        Graph::new(&addresses.collect(), &told.iter().map(|(server, it)| (*server, it)).collect())
    }

    fn away(graph: &Graph, from: u8, to: u8) -> Option<u32> {
        graph.hops(id(from)).into_iter().find(|(server, _)| *server == id(to)).and_then(|(_, hops)| hops)
    }

    #[test]
    fn a_link_is_one_hop_and_a_neighbour_another() {
        let graph = graph(&[(1, 1), (2, 1), (3, 1), (4, 2), (5, 2)], &[(3, &[4]), (4, &[3])]);
        assert_eq!(away(&graph, 1, 1), Some(0));
        assert_eq!(away(&graph, 1, 2), Some(1));
        assert_eq!(away(&graph, 3, 4), Some(1));
        assert_eq!(away(&graph, 1, 5), Some(3));
        assert_eq!(graph.diameter(), 3);
        assert!(graph.is_connected());
        let cut = graph.without(id(4), id(3));
        assert_eq!((away(&cut, 1, 5), cut.is_connected(), cut.diameter()), (None, false, 1));
    }

    #[test]
    fn a_link_that_only_one_of_two_names_is_none() {
        let graph = graph(&[(1, 1), (2, 2)], &[(1, &[2]), (2, &[])]);
        assert_eq!(away(&graph, 1, 2), None);
        assert_eq!(away(&graph, 2, 1), None);
    }

    #[test]
    fn who_names_no_link_is_on_one_that_fits_or_alone() {
        let graph = graph(&[(1, 1), (2, 1), (3, 7), (4, 7)], &[(1, &[])]);
        assert_eq!(away(&graph, 2, 1), Some(1));
        assert_eq!(away(&graph, 3, 4), None, "of their link nothing is known");
        assert_eq!(graph.hops(id(9)), []);
        assert_eq!(Graph::default().diameter(), 0);
        assert!(Graph::default().is_connected());
    }

    /// As in figures 13 and 14 of the source.
    #[test]
    fn one_link_more_makes_a_wide_graph_narrow() {
        let members: Vec<(u8, u8)> = (1..=7).map(|number| (number, number)).collect();
        let row: [(u8, &[u8]); 7] =
            [(1, &[2]), (2, &[1, 3]), (3, &[2, 4]), (4, &[3, 5]), (5, &[4, 6]), (6, &[5, 7]), (7, &[6])];
        assert_eq!(graph(&members, &row).diameter(), 6);
        let mut ring = row;
        ring[0].1 = &[2, 7];
        ring[6].1 = &[6, 1];
        assert_eq!(graph(&members, &ring).diameter(), 3);
    }
}
