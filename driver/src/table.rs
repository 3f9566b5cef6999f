//! How a daemon's status is laid out for people.

use std::fmt::Write;
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};

/// Adds a named table with the count of its rows; no rows, no table.
pub fn section(out: &mut String, name: &str, head: &[&str], rows: Vec<Vec<String>>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "\n{name}: {}", rows.len());
    if rows.is_empty() {
        return;
    }
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(head)
        .add_rows(rows);
    for line in table.lines() {
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

/// A span as people say it: the two largest units.
#[must_use]
pub fn ago(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d {:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_their_two_largest_units() {
        let said = [59, 65, 3_600, 86_399, 90_000].map(|seconds| ago(Duration::from_secs(seconds)));
        assert_eq!(said, ["59s", "1m 05s", "1h 00m", "23h 59m", "1d 01h"]);
    }

    #[test]
    fn a_section_counts_its_rows_and_leaves_no_blanks_behind_them() {
        let mut out = String::new();
        section(&mut out, "none", &["a"], Vec::new());
        section(&mut out, "one", &["a", "long head"], vec![vec!["1".to_owned(), "2".to_owned()]]);
        assert_eq!(out, "\nnone: 0\n\none: 1\n a  long head\n 1  2\n");
    }
}
