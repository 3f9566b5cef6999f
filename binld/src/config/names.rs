//! Names that stand in the configuration as text.

use driver::config::{Written, suggest};

use super::Preset;
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

impl Written for Preset {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "lan" => Ok(Self::Lan),
            "wan" => Ok(Self::Wan),
            _ => Err(format!("unknown preset `{text}`; {}", suggest(text, &["lan", "wan"]))),
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Lan => "lan",
            Self::Wan => "wan",
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
