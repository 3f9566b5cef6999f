//! Names that stand in the configuration as text.

use driver::config::{Written, suggest};
use wire::FileName;

use crate::engine::catalog::{ClientName, Profile};

impl Written for Profile {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "ipxe" => Ok(Self::Ipxe),
            "tftp" => Ok(Self::Tftp),
            "pxe-rom" => Ok(Self::PxeRom),
            _ => {
                let right = suggest(text, &["ipxe", "tftp", "pxe-rom"]);
                Err(format!("unknown profile `{text}`; {right}"))
            }
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Ipxe => "ipxe",
            Self::Tftp => "tftp",
            Self::PxeRom => "pxe-rom",
        }
        .to_owned()
    }
}

impl Written for ClientName {
    fn read(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` names no client; write an Ethernet address like \"52:54:00:12:34:56\" or a machine \
                 identifier like \"00112233-4455-6677-8899-aabbccddeeff\""
            )
        };
        match (text.parse(), text.parse()) {
            (Ok(mac), _) => Ok(Self::Mac(mac)),
            (Err(_), Ok(uuid)) => Ok(Self::Uuid(uuid)),
            (Err(_), Err(_)) => Err(wrong()),
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Mac(mac) => mac.to_string(),
            Self::Uuid(uuid) => uuid.to_string(),
        }
    }
}

impl Written for FileName {
    /// Only one spelling of a name is taken: clients, servers and conflicts compare it byte for byte (G23).
    fn read(text: &str) -> Result<Self, String> {
        let wrong = |what: &str, right: &str| Err(format!("file name {text:?} {what}; {right}"));
        if text.is_empty() {
            return wrong("is empty", "name a file below the boot directory of the MTFTP server");
        }
        if text.len() > Self::LEN_MAX {
            return wrong("is longer than 255 bytes", "no packet has room for it: choose a shorter one");
        }
        if text.contains('\0') {
            return wrong("holds a NUL", "leave it out");
        }
        if text.contains('\\') {
            return wrong("holds a backslash", "write `/` between directories");
        }
        if text.starts_with('/') {
            return wrong("is absolute", "write it relative to the boot directory of the MTFTP server");
        }
        if text.split('/').any(|part| part == "..") {
            return wrong("leads upwards", "write it without `..`");
        }
        if text.split('/').any(|part| part.is_empty() || part == ".") {
            return wrong("has an empty part", "write it without `//`, `.` and a `/` at the end");
        }
        Self::new(text.as_bytes()).ok_or_else(|| format!("file name {text:?} is no file name"))
    }

    fn write(&self) -> String {
        String::from_utf8_lossy(self.as_bytes()).into_owned()
    }
}
