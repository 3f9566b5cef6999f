//! Values that stand in a configuration as text, checked where they are read, so that an error has its line.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use wire::policy::SlowClients;
use wire::{FileName, GroupAddr};

use super::suggest;

/// A type that is written as text.
pub trait Written: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// `what is wrong; what would be right`.
    fn read(text: &str) -> Result<Self, String>;

    /// Writes it so that [`Self::read`] gives the same again.
    fn write(&self) -> String;
}

/// A value of a configuration that is [`Written`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text<T>(pub T);

impl<T: fmt::Debug> fmt::Debug for Text<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: Written> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.write())
    }
}

impl<'de, T: Written> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        T::read(&text).map(Self).map_err(de::Error::custom)
    }
}

impl Written for Ipv4Addr {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("`{text}` is not an IPv4 address; write one like \"10.0.0.2\""))
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Written for SocketAddrV4 {
    fn read(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not an address and a port; write them like \"10.1.0.2:4016\"");
        text.parse().map_err(|_| wrong()).and_then(|read: Self| {
            let usable = read.port() != 0 && !read.ip().is_unspecified() && !read.ip().is_multicast();
            usable.then_some(read).ok_or_else(wrong)
        })
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Written for GroupAddr {
    fn read(text: &str) -> Result<Self, String> {
        let address = <Ipv4Addr as Written>::read(text)?;
        Self::new(address).ok_or_else(|| {
            format!("{address} is not a multicast address; write one of 224.0.0.0–239.255.255.255")
        })
    }

    fn write(&self) -> String {
        self.to_string()
    }
}

impl Written for SlowClients {
    fn read(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|slow| slow.name() == text);
        known.ok_or_else(|| {
            format!(
                "`{text}` is nothing to do with slow clients; {}",
                suggest(text, &Self::ALL.map(Self::name))
            )
        })
    }

    fn write(&self) -> String {
        self.name().to_owned()
    }
}

impl<const MAX: usize> Written for wire::text::Text<MAX> {
    fn read(text: &str) -> Result<Self, String> {
        Self::new(text).map_err(|error| error.to_string())
    }

    fn write(&self) -> String {
        self.to_string()
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
