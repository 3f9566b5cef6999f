//! Which machine this is, as its firmware would say.

use std::fs;
use std::path::Path;

use anyhow::{Context, anyhow};
use wire::{Mac, Uuid};

/// The Ethernet address of an interface.
///
/// # Errors
/// If it has none.
pub(super) fn mac(interface: &str) -> anyhow::Result<Mac> {
    let path = Path::new("/sys/class/net").join(interface).join("address");
    let reading = || format!("no Ethernet address in {}", path.display());
    let text = fs::read_to_string(&path).with_context(reading)?;
    text.trim().parse().map_err(|error| anyhow!("{error}")).with_context(reading)
}

/// The machine's identifier; `None` where there is none, or it is not for us to read, or it identifies nobody.
pub(super) fn uuid() -> Option<Uuid> {
    let text = fs::read_to_string("/sys/class/dmi/id/product_uuid").ok()?;
    text.trim().to_ascii_lowercase().parse().ok().filter(|uuid: &Uuid| !uuid.identifies_nobody())
}
