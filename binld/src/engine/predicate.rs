//! Does a query concern a claim, and what does the claim do about it? Pure and total (R003.8–R003.13, Y1–Y3).

use wire::Content;
use wire::query::content_key;

/// How firmly an address is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Still clearing.
    Pending,
    /// Recording, configuring or held: from the end of the clearing window on.
    Committed,
    /// Not handed out any more, or released and not to be used again yet.
    Leaving,
}

/// What to do about a query for an address of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: no conflict.
    Silent,
    /// Echo it.
    Defend,
    /// Echo it, say `hold`, and announce again soon.
    DefendLoudly,
    /// Give the address up and try the next.
    Yield,
}

/// Same address, different (MTFTP server, file). Ports, type and layer do not count: network cards, IGMP and switches
/// filter on the address only. Judged claim by claim, which is what silence rules 1–3 of the source come to.
#[must_use]
pub fn conflicts(ours: &Content, theirs: &Content) -> bool {
    ours != theirs
}

/// What a claim for `ours` does about somebody who asks for the very same address for `theirs`.
#[must_use]
pub fn judge(standing: Standing, ours: &Content, theirs: &Content) -> Verdict {
    if !conflicts(ours, theirs) {
        return Verdict::Silent;
    }
    match standing {
        Standing::Committed => Verdict::DefendLoudly,
        Standing::Leaving => Verdict::Defend,
        // Equal keys mean equal content, which is no conflict: the order is strict.
        Standing::Pending if content_key(theirs) < content_key(ours) => Verdict::Defend,
        Standing::Pending => Verdict::Yield,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;
    use wire::FileName;

    fn content(server: u8, file: &str) -> Content {
        Content { server: Ipv4Addr::new(10, 0, 0, server), file: FileName::new(file.as_bytes()).unwrap() }
    }

    #[test]
    fn every_standing_against_every_kind_of_query() {
        let (low, high) = (content(1, "a"), content(2, "a"));
        let table = [
            (Standing::Pending, &low, &low, Verdict::Silent),
            (Standing::Pending, &low, &high, Verdict::Yield),
            (Standing::Pending, &high, &low, Verdict::Defend),
            (Standing::Committed, &low, &low, Verdict::Silent),
            (Standing::Committed, &low, &high, Verdict::DefendLoudly),
            (Standing::Committed, &high, &low, Verdict::DefendLoudly),
            (Standing::Leaving, &low, &low, Verdict::Silent),
            (Standing::Leaving, &low, &high, Verdict::Defend),
            (Standing::Leaving, &high, &low, Verdict::Defend),
        ];
        for (standing, ours, theirs, verdict) in table {
            assert_eq!(judge(standing, ours, theirs), verdict, "{standing:?} {ours} {theirs}");
        }
    }

    #[test]
    fn the_same_server_with_another_file_conflicts() {
        // Silence rule 1 read literally would be silent here; per claim it is not.
        assert!(conflicts(&content(1, "a"), &content(1, "b")));
        assert!(conflicts(&content(1, "a"), &content(2, "a")));
    }

    proptest! {
        /// Of two pending claims exactly one yields, whoever hears whom: antisymmetric and total (Y2).
        #[test]
        fn of_two_pending_claims_exactly_one_yields(
            a in (1u8..4, "[ab]{1,3}"), b in (1u8..4, "[ab]{1,3}")
        ) {
            let (a, b) = (content(a.0, &a.1), content(b.0, &b.1));
            let ours = judge(Standing::Pending, &a, &b);
            let theirs = judge(Standing::Pending, &b, &a);
            if a == b {
                prop_assert_eq!((ours, theirs), (Verdict::Silent, Verdict::Silent));
            } else {
                prop_assert!(matches!(
                    (ours, theirs),
                    (Verdict::Defend, Verdict::Yield) | (Verdict::Yield, Verdict::Defend)
                ));
            }
        }
    }
}
