//! Golden packets from `wire/golden/*.hex`, and the five tests.

use std::path::Path;

use wire::DecodeErrorKind;

/// The bytes of `wire/golden/<name>.hex`: hexadecimal digits, blanks, and comments from `#` to the end of the line.
pub(crate) fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(format!("{name}.hex"));
    parse(&std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

fn parse(text: &str) -> Vec<u8> {
    let code = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    code.flat_map(str::split_whitespace).map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

/// Name and bytes of every golden packet, in order of name.
pub(crate) fn all() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut packets: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .map(|name| (name.clone(), golden(&name)))
        .collect();
    packets.sort();
    packets
}

/// What a decoder does with bytes behind the end of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Trailing {
    /// Refuses the message.
    Refused(DecodeErrorKind),
    /// Takes the message as if they were not there.
    Ignored,
    /// Ignores NULs, refuses the message for anything else.
    Padding(DecodeErrorKind),
    /// They are part of the message.
    Kept,
}

/// A byte that holds a code or a fixed value: offset, name of its field, known values, and how unknown ones are
/// refused; `None` if they survive and are written again as they were.
pub(crate) type Code = (usize, &'static str, &'static [u8], Option<DecodeErrorKind>);

/// The five tests of one message. `valid_cuts` are the lengths to which the golden packet can be cut and is another
/// valid message.
macro_rules! five_tests {
    ($name:ident, $value:expr, $decode:expr, $encode:expr,
     valid_cuts: $cuts:expr, trailing: $trailing:expr, codes: $codes:expr, any: $any:expr $(,)?) => {
        mod $name {
            #[allow(unused_imports, reason = "not every message needs every name")]
            use super::*;
            use crate::golden::{Code, Trailing, golden};

            #[test]
            fn golden_bytes_both_ways() {
                let golden = golden(stringify!($name));
                assert_eq!($decode(&golden), Ok($value));
                assert_eq!($encode(&$value), golden);
            }

            #[test]
            fn every_truncation_errs() {
                let golden = golden(stringify!($name));
                let valid_cuts: &[usize] = &$cuts;
                for len in 0..golden.len() {
                    assert_eq!($decode(&golden[..len]).is_ok(), valid_cuts.contains(&len), "cut to {len} bytes");
                }
            }

            #[test]
            fn trailing_bytes_are_decided_on() {
                for extra in [0, 1, 255] {
                    let mut bytes = golden(stringify!($name));
                    bytes.push(extra);
                    let decoded = $decode(&bytes);
                    match $trailing {
                        Trailing::Padding(_) if extra == 0 => assert_eq!(decoded, Ok($value)),
                        Trailing::Ignored => assert_eq!(decoded, Ok($value)),
                        Trailing::Refused(kind) | Trailing::Padding(kind) => {
                            assert_eq!(decoded.map_err(|error| error.kind), Err(kind));
                        }
                        Trailing::Kept => assert_ne!(decoded.unwrap(), $value),
                    }
                }
            }

            #[test]
            fn unknown_codes_are_decided_on() {
                let codes: &[Code] = &$codes;
                for &(offset, what, known, refusal) in codes {
                    let mut bytes = golden(stringify!($name));
                    assert!(known.contains(&bytes[offset]), "byte {offset} is not the {what}");
                    for code in 0..=255 {
                        bytes[offset] = code;
                        let decoded = $decode(&bytes);
                        let Some(kind) = refusal else {
                            assert_eq!($encode(&decoded.unwrap()), bytes, "{what} {code}");
                            continue;
                        };
                        let refused = matches!(&decoded, Err(error) if error.what == what && error.kind == kind);
                        assert_eq!(refused, !known.contains(&code), "{what} {code}: {decoded:?}");
                    }
                }
            }

            proptest::proptest! {
                #[test]
                fn random_round_trip(value in $any) {
                    let bytes = $encode(&value);
                    proptest::prop_assert_eq!($decode(&bytes), Ok(value));
                }
            }
        }
    };
}

#[test]
fn hex_files_hold_bytes_and_comments() {
    assert_eq!(parse("# title\n\n00 fF # 1: two\n7a\n"), [0, 0xff, 0x7a]);
}
