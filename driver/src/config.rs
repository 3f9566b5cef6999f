//! Configuration files: read once, with errors that name file, line, what is wrong and what would be right.
//!
//! The daemons describe their configuration as `serde` types with `deny_unknown_fields`. What `serde` cannot check
//! (does the interface exist, is the directory there) they check themselves and report through [`Document::error`],
//! which finds the line of a key in the text.

mod preset;
mod text;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

pub use preset::Preset;
pub use text::{Text, Written};

/// What is wrong with a configuration. Reading has no state, so none changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; `None` when the file as a whole is meant.
    pub line: Option<usize>,
    /// What is wrong.
    pub what: String,
    /// What would be right; empty when there is nothing to add.
    pub right: String,
}

impl fmt::Display for ConfigError {
    /// `file:line: what is wrong; what would be right`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.what)?;
        if self.right.is_empty() { Ok(()) } else { write!(f, "; {}", self.right) }
    }
}

impl std::error::Error for ConfigError {}

/// The text a configuration came from, kept to tell lines.
#[derive(Debug, Clone)]
pub struct Document {
    file: PathBuf,
    text: String,
    /// See [`places`]; made when the first line is asked for.
    places: OnceLock<BTreeMap<String, usize>>,
}

impl Document {
    /// An error about the key at `path`, such as `tftp.port` or `item.2.file` (a number is the place in an array,
    /// from 0). Where the key is not in the text, its nearest ancestor that is gives the line.
    #[must_use]
    pub fn error(&self, path: &str, what: impl Into<String>, right: impl Into<String>) -> ConfigError {
        ConfigError {
            file: self.file.clone(),
            line: self.line_of(path),
            what: what.into(),
            right: right.into(),
        }
    }

    /// The line of the key at `path`, or of its nearest ancestor that is in the text; from 1.
    #[must_use]
    pub fn line_of(&self, path: &str) -> Option<usize> {
        self.find(path).map(|(offset, _)| line_at(&self.text, offset))
    }

    /// Whether the key at `path` itself is in the text, not left at its default.
    #[must_use]
    pub fn is_written(&self, path: &str) -> bool {
        self.find(path).is_some_and(|(_, whole)| whole)
    }

    /// Where the key at `path` or its nearest ancestor begins, and whether it is the key itself.
    fn find(&self, path: &str) -> Option<(usize, bool)> {
        let places = self.places.get_or_init(|| places(&self.text));
        let mut nearest = path;
        loop {
            if let Some(offset) = places.get(nearest) {
                return Some((*offset, nearest == path));
            }
            (nearest, _) = nearest.rsplit_once('.')?;
        }
    }
}

/// Where every key and every element of an array begins. A long catalog may get a warning for each item: the text is
/// searched once.
fn places(text: &str) -> BTreeMap<String, usize> {
    let mut places = BTreeMap::new();
    let Ok(root) = DeTable::parse(text) else { return places };
    let mut open: Vec<(String, &DeValue<'_>)> = Vec::new();
    for (key, value) in root.get_ref() {
        places.insert(key.get_ref().to_string(), key.span().start);
        open.push((key.get_ref().to_string(), value.get_ref()));
    }
    while let Some((path, value)) = open.pop() {
        let mut put = |step: &str, offset: usize, value| {
            let path = format!("{path}.{step}");
            places.insert(path.clone(), offset);
            open.push((path, value));
        };
        match value {
            DeValue::Table(table) => {
                table.iter().for_each(|(key, value)| put(key.get_ref(), key.span().start, value.get_ref()));
            }
            DeValue::Array(array) => {
                let numbered = array.iter().enumerate();
                numbered.for_each(|(index, value)| {
                    put(&index.to_string(), value.span().start, value.get_ref());
                });
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }
    places
}

/// Reads a configuration.
///
/// # Errors
/// The file cannot be read, is not TOML, or does not fit `T`: see [`ConfigError`].
pub fn read<T: DeserializeOwned>(file: &Path) -> Result<T, ConfigError> {
    read_document(file).map(|(config, _)| config)
}

/// Reads a configuration, and keeps the text for errors found later.
///
/// # Errors
/// As [`read`].
pub fn read_document<T: DeserializeOwned>(file: &Path) -> Result<(T, Document), ConfigError> {
    let text = fs::read_to_string(file).map_err(|error| ConfigError {
        file: file.to_owned(),
        line: None,
        what: format!("cannot be read: {error}"),
        right: "give the path of a readable TOML file with --config".to_owned(),
    })?;
    parse(file, &text)
}

/// Reads a configuration from text that came from `file`.
///
/// # Errors
/// The text is not TOML, or does not fit `T`: see [`ConfigError`].
pub fn parse<T: DeserializeOwned>(file: &Path, text: &str) -> Result<(T, Document), ConfigError> {
    let config = toml::from_str(text).map_err(|error| {
        let (what, right) = explain(error.message());
        let line = error.span().map(|span| line_at(text, span.start));
        ConfigError { file: file.to_owned(), line, what, right }
    })?;
    Ok((config, Document { file: file.to_owned(), text: text.to_owned(), places: OnceLock::new() }))
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|&byte| byte == b'\n').count()
}

/// Splits a message of `serde` into what is wrong and what would be right. Messages about unknown keys and variants
/// list the known ones in backquotes; the nearest of them is offered first.
fn explain(message: &str) -> (String, String) {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let kind = ["unknown field", "unknown variant"].into_iter().find(|kind| message.starts_with(kind));
    let (Some(kind), Some(wrong)) = (kind, quoted.next()) else {
        return (message.trim().replace('\n', ", "), String::new());
    };
    let known: Vec<&str> = quoted.collect();
    let noun = if kind == "unknown field" { "key" } else { "value" };
    (format!("unknown {noun} `{wrong}`"), suggest(wrong, &known))
}

/// The known word nearest to a wrong one, or all of them when none is near.
#[must_use]
pub fn suggest(wrong: &str, known: &[&str]) -> String {
    let near = known
        .iter()
        .map(|word| (strsim::damerau_levenshtein(&wrong.to_lowercase(), &word.to_lowercase()), *word))
        .min()
        .filter(|(distance, word)| *distance <= 1 + word.len().max(wrong.len()) / 3);
    match near {
        Some((_, word)) => format!("did you mean `{word}`?"),
        None if known.is_empty() => "nothing is known here".to_owned(),
        None => {
            let known: Vec<String> = known.iter().map(|word| format!("`{word}`")).collect();
            format!("known here: {}", known.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        interface: String,
        #[serde(default)]
        tftp: Tftp,
        #[serde(default)]
        item: Vec<Item>,
    }

    #[derive(Debug, Default, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Tftp {
        port: u16,
        transfer_port: u16,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Item {
        name: String,
    }

    fn fails(text: &str) -> String {
        parse::<Sample>(Path::new("x.toml"), text).map(|(sample, _)| sample).unwrap_err().to_string()
    }

    #[test]
    fn unknown_keys_name_line_and_nearest_key() {
        let text = fails("interface = \"eth0\"\n[tftp]\nprot = 69\n");
        assert_eq!(text, "x.toml:3: unknown key `prot`; did you mean `port`?");
        let text = fails("interface = \"eth0\"\nzzzzzzzz = 1\n");
        assert_eq!(text, "x.toml:2: unknown key `zzzzzzzz`; known here: `interface`, `tftp`, `item`");
    }

    #[test]
    fn wrong_values_name_their_line() {
        let text = fails("interface = \"eth0\"\n\n[tftp]\nport = 70000\n");
        assert!(text.starts_with("x.toml:4: "), "{text}");
        let text = fails("interface = \"eth0\"\ntftp = \n");
        assert!(text.starts_with("x.toml:2: "), "{text}");
        let text = fails("[tftp]\nport = 1\n");
        assert!(text.contains("interface"), "{text}");
    }

    #[test]
    fn later_errors_find_their_line() {
        let text = "interface = \"eth0\"\n[tftp]\nport = 1\ntransfer_port = 2\n[[item]]\nname = \"a\"\n[[item]]\nname = \"b\"\n";
        let (sample, document) = parse::<Sample>(Path::new("x.toml"), text).unwrap();
        assert_eq!((sample.interface.as_str(), sample.tftp.port), ("eth0", 1));
        assert_eq!((sample.tftp.transfer_port, sample.item[1].name.as_str()), (2, "b"));
        assert_eq!(document.line_of("interface"), Some(1));
        assert_eq!(document.line_of("tftp.transfer_port"), Some(4));
        assert_eq!(document.line_of("tftp.absent"), Some(2));
        assert_eq!(document.line_of("item.1.name"), Some(8));
        assert_eq!(document.line_of("absent"), None);
        assert!(document.is_written("tftp.port") && document.is_written("item.0.name"));
        assert!(!document.is_written("tftp.absent") && !document.is_written("absent"));
        let error = document.error("tftp.port", "port 1 is taken", "choose another");
        assert_eq!(error.to_string(), "x.toml:3: port 1 is taken; choose another");
    }

    #[test]
    fn a_missing_file_says_what_to_do() {
        let error = read::<Sample>(Path::new("/nonexistent/x.toml")).unwrap_err();
        assert!(error.to_string().starts_with("/nonexistent/x.toml: cannot be read: "), "{error}");
        assert!(error.right.contains("--config"));
    }
}
