//! What became of it, for people and for scripts.

use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use serde_json::json;

use super::Exit;
use super::cli::Arguments;
use super::sink::Hash;
use crate::client::discovery::Found;
use crate::client::{Counts, Failure, Source};

pub(super) struct Outcome<'a> {
    pub(super) arguments: &'a Arguments,
    pub(super) found: &'a Found,
    pub(super) waits: u32,
    pub(super) time: Duration,
    pub(super) counts: Counts,
    pub(super) outcome: Result<(Source, Hash), Failure>,
}

impl Outcome<'_> {
    pub(super) fn exit(&self) -> Exit {
        self.outcome.as_ref().map_or_else(Exit::of, |_| Exit::Done)
    }

    /// To standard output, or to standard error where the file goes to that.
    ///
    /// # Errors
    /// If nobody takes it.
    pub(super) fn tell(&self) -> anyhow::Result<()> {
        let text = if self.arguments.json { self.json() } else { self.text() };
        let to_output = self.arguments.output(&self.found.file).is_some()
            && (self.arguments.json || self.outcome.is_ok());
        let told = if to_output {
            std::io::stdout().write_all(text.as_bytes())
        } else {
            std::io::stderr().write_all(text.as_bytes())
        };
        told.context("cannot tell the result")
    }

    fn text(&self) -> String {
        let Counts { bytes, .. } = self.counts;
        let file = &self.found.file;
        match &self.outcome {
            Ok((source, hash)) => {
                let seconds = self.time.as_secs_f64();
                format!("{file}: {bytes} bytes in {seconds:.3} s by {}, SHA-256 {}\n", by(*source), hex(hash))
            }
            Err(failure) => format!("mtftp-get: {file}: {failure}\n"),
        }
    }

    fn json(&self) -> String {
        let counts = self.counts;
        let (source, cause, hash) = match &self.outcome {
            Ok((source, hash)) => (Some(name(*source)), cause(*source), Some(hex(hash))),
            Err(_) => (None, None, None),
        };
        let object = json!({
            "file": self.found.file.to_string(),
            "server": self.found.file_server.to_string(),
            "boot_server": self.found.boot_server.to_string(),
            "wait_packets": self.waits,
            "source": source,
            "fall_back_cause": cause,
            "error": self.outcome.as_ref().err().map(ToString::to_string),
            "seconds": self.time.as_secs_f64(),
            "bytes": counts.bytes,
            "sha256": hash,
            "blocks_heard": counts.multicast_blocks + counts.unicast_blocks,
            "multicast_blocks": counts.multicast_blocks,
            "unicast_blocks": counts.unicast_blocks,
            "needless_blocks": counts.needless_blocks,
            "acks": counts.acks,
            "asked_again": counts.asked_again,
            "times_master": counts.master,
        });
        format!("{object}\n")
    }
}

pub(super) fn name(source: Source) -> &'static str {
    match source {
        Source::PxeMtftp => "pxe-mtftp",
        Source::Rfc2090 => "rfc2090",
        Source::Plain => "tftp",
        Source::FallBack(_) => "fall-back",
    }
}

pub(super) fn cause(source: Source) -> Option<String> {
    match source {
        Source::FallBack(cause) => Some(cause.to_string()),
        Source::PxeMtftp | Source::Rfc2090 | Source::Plain => None,
    }
}

fn by(source: Source) -> String {
    match source {
        Source::PxeMtftp => "PXE-MTFTP".to_owned(),
        Source::Rfc2090 => "RFC 2090".to_owned(),
        Source::Plain => "plain TFTP".to_owned(),
        Source::FallBack(cause) => format!("plain TFTP, as {cause}"),
    }
}

pub(super) fn hex(hash: &Hash) -> String {
    hash.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
