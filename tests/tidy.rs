//! Checks of the tree that neither the compiler nor clippy makes.

#![allow(clippy::panic, reason = "helpers of tests fail by panicking")]
#![allow(clippy::string_slice, reason = "at the place of what was found in the string")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const MEMBERS: [&str; 7] = ["wire", "driver", "peers", "db", "binld", "mtftp", "tests"];
/// Lines of code in one file, tests not counted.
const LINES_MAX: usize = 500;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every file under `dir` whose name ends like that, in order.
fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display())) {
        let path = entry.expect("an entry of a directory").path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "target") {
                found.extend(files(&path, suffix));
            }
        } else if path.to_string_lossy().ends_with(suffix) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<PathBuf> {
    MEMBERS.iter().flat_map(|member| files(&root().join(member), ".rs")).collect()
}

/// Tests by their place: `tests.rs`, `tests/…` and the integration tests of a member.
fn is_test(path: &Path) -> bool {
    let below = path.strip_prefix(root()).expect("a file of the tree");
    let simulator = below.starts_with("tests/sim");
    let mut parts = below.components().map(|part| part.as_os_str());
    !simulator && parts.any(|part| part == "tests" || part == "tests.rs")
}

/// The lines before the unit tests at the end of a file.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let end = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    text[..end].lines().enumerate().map(|(number, line)| (number + 1, line))
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// Whether the line names `word`, and not something that only begins or ends like it.
fn names(line: &str, word: &str) -> bool {
    let part = |letter: char| letter.is_alphanumeric() || letter == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let open = word.ends_with([':', '/']);
        before.is_none_or(|letter| !part(letter) && letter != ':') && (open || !after.is_some_and(part))
    })
}

fn assert_none(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n{}", found.join("\n"));
}

#[test]
fn no_file_is_longer_than_a_reader_likes() {
    let long = sources().into_iter().filter(|path| !is_test(path)).filter_map(|path| {
        let lines =
            code(&read(&path)).filter(|(_, line)| !line.trim().is_empty() && !is_comment(line)).count();
        (lines > LINES_MAX).then(|| format!("{}: {lines} lines of code", path.display()))
    });
    assert_none("files over the limit", &long.collect::<Vec<_>>());
}

#[test]
fn the_cores_name_nothing_that_does_io() {
    const FORBIDDEN: [&str; 10] = [
        "crate::shell",
        "crate::config",
        "crate::cli",
        "db::",
        "tokio::",
        "tracing::",
        "std::net::UdpSocket",
        "std::fs",
        "std::thread",
        "std::time::Instant",
    ];
    let mut found = Vec::new();
    for path in sources().into_iter().filter(|path| !is_test(path)) {
        let below = path.strip_prefix(root()).expect("a file of the tree").to_string_lossy().into_owned();
        let core = ["binld/src/engine", "mtftp/src/engine", "peers/src", "wire/src"]
            .iter()
            .any(|dir| below.starts_with(dir));
        // What goes to the store and comes from it is not the machines', and behind a feature.
        if !core || below.ends_with("/bench.rs") || below == "peers/src/rows.rs" {
            continue;
        }
        for (number, line) in code(&read(&path)).filter(|(_, line)| !is_comment(line)) {
            for word in FORBIDDEN.iter().filter(|word| names(line, word)) {
                found.push(format!("{below}:{number}: {word}"));
            }
        }
    }
    assert_none("cores that reach outside", &found);
}

/// Members that a member's manifest names as dependencies, tests of its own not counted.
fn dependencies(member: &str) -> BTreeSet<String> {
    let manifest = read(&root().join(member).join("Cargo.toml"));
    let mut section = String::new();
    let mut found = BTreeSet::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line.to_owned();
        }
        let name: String =
            line.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
        if section == "[dependencies]" && MEMBERS.contains(&name.as_str()) {
            found.insert(name);
        }
    }
    found
}

#[test]
fn members_import_only_what_lies_below_them() {
    let allowed: [(&str, &[&str]); 6] = [
        ("wire", &[]),
        ("driver", &["wire"]),
        ("db", &["wire"]),
        ("peers", &["wire", "driver", "db"]),
        ("binld", &["wire", "driver", "peers", "db"]),
        ("mtftp", &["wire", "driver", "peers", "db"]),
    ];
    for (member, below) in allowed {
        let below: BTreeSet<String> = below.iter().map(|&name| name.to_owned()).collect();
        assert!(dependencies(member).is_subset(&below), "{member} imports {:?}", dependencies(member));
    }
    // The reader above must not be blind.
    assert!(dependencies("binld").contains("wire") && dependencies("db").contains("wire"));
}

#[test]
fn every_limit_has_its_reason_and_its_use() {
    for (member, least) in [("binld", 10), ("mtftp", 10), ("peers", 5)] {
        let path = root().join(member).join("src/limits.rs");
        let text = read(&path);
        let uses: String = files(&root().join(member).join("src"), ".rs")
            .iter()
            .filter(|other| other.file_name() != path.file_name())
            .map(|other| read(other))
            .collect();
        let mut before = "";
        let mut count = 0;
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("pub const ") {
                let name = rest.split(':').next().unwrap_or_default();
                assert!(before.starts_with("///"), "{member}: {name} has no reason");
                assert!(uses.contains(name), "{member}: nothing keeps to {name}");
                count += 1;
            }
            before = line;
        }
        assert!(count > least, "{member} has {count} limits: is this file read at all?");
    }
}

#[test]
fn every_golden_datagram_has_its_five_tests() {
    let tests: String = files(&root().join("wire/tests"), ".rs").iter().map(|path| read(path)).collect();
    let golden = files(&root().join("wire/golden"), ".hex");
    assert!(golden.len() > 20);
    for path in golden {
        let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
        // Requests are only read and replies only written: their tests are spelt out.
        let one_way = name.starts_with("boot_") && tests.contains(&format!("\"{name}\""));
        let five = tests.contains(&format!("five_tests!(\n    {name},"));
        assert!(five || one_way, "golden/{name}.hex has no tests");
    }
    for variant in ["Configure", "Ack", "Nak", "Delete", "Superseded", "Hold", "Hello", "Told"] {
        assert!(tests.contains(&format!("Message::{variant}(")), "message {variant} has no tests");
    }
}

#[test]
fn nothing_names_somebodys_home() {
    // Written apart, so that this file does not find itself.
    let homes =
        [["/ho", "me/"].concat(), ["/Us", "ers/"].concat(), ["/ro", "ot/"].concat(), ["/wo", "rk/"].concat()];
    let mut found = Vec::new();
    for suffix in [".rs", ".toml", ".md", ".sql", ".sh", ".service"] {
        for member in MEMBERS.iter().chain(&["qemu"]) {
            for path in files(&root().join(member), suffix) {
                for (number, line) in read(&path).lines().enumerate() {
                    if homes.iter().any(|home| names(line, home)) {
                        found.push(format!("{}:{}: {line}", path.display(), number + 1));
                    }
                }
            }
        }
    }
    assert_none("paths of one machine", &found);
}

#[test]
fn nothing_is_left_to_do_later() {
    let word = ["TO", "DO"].concat();
    let mut found = Vec::new();
    for path in sources() {
        for (number, line) in read(&path).lines().enumerate() {
            if line.contains(&word) || line.contains(&["FIX", "ME"].concat()) {
                found.push(format!("{}:{}: {}", path.display(), number + 1, line.trim()));
            }
        }
    }
    assert_none("notes that belong into an issue", &found);
}
