//! Names that stand in the configuration as text.

use driver::config::{Written, suggest};

use crate::engine::catalog::{ClientName, Profile};

impl Written for Profile {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "ipxe" => Ok(Self::Ipxe),
            "tftp" => Ok(Self::Tftp),
            "pxe-rom" => Ok(Self::PxeRom),
            "mtftp-get" => Ok(Self::MtftpGet),
            _ => {
                let right = suggest(text, &["ipxe", "tftp", "pxe-rom", "mtftp-get"]);
                Err(format!("unknown profile `{text}`; {right}"))
            }
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Ipxe => "ipxe",
            Self::Tftp => "tftp",
            Self::PxeRom => "pxe-rom",
            Self::MtftpGet => "mtftp-get",
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
