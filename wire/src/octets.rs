//! Reading and writing fields in network byte order.

use std::net::{Ipv4Addr, SocketAddrV4};

use bytes::BufMut;
use nom::Parser;
use nom::error::Error as NomError;
use nom::number::complete::{be_u16, be_u32, be_u64};

use crate::error::{DecodeError, DecodeErrorKind};
use crate::ids::FileName;

/// Reads fields off the front of a datagram and knows how far it got.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    /// Offset of the end of what is read.
    end: usize,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self::new_at(bytes, 0)
    }

    /// A reader of `bytes` that stand at `offset` of the datagram.
    pub(crate) fn new_at(bytes: &'a [u8], offset: usize) -> Self {
        Self { end: offset.saturating_add(bytes.len()), rest: bytes }
    }

    pub(crate) fn offset(&self) -> usize {
        self.end.saturating_sub(self.rest.len())
    }

    pub(crate) fn rest_len(&self) -> usize {
        self.rest.len()
    }

    /// What is not read yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn error(&self, what: &'static str, kind: DecodeErrorKind) -> DecodeError {
        DecodeError { what, offset: self.offset(), kind }
    }

    fn parse<O, P>(&mut self, what: &'static str, mut parser: P) -> Result<O, DecodeError>
    where
        P: Parser<&'a [u8], Output = O, Error = NomError<&'a [u8]>>,
    {
        match parser.parse(self.rest) {
            Ok((rest, value)) => {
                self.rest = rest;
                Ok(value)
            }
            Err(_) => Err(self.error(what, DecodeErrorKind::Truncated)),
        }
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        self.array(what).map(|[value]| value)
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        self.parse(what, be_u16)
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        self.parse(what, be_u32)
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        self.parse(what, be_u64)
    }

    pub(crate) fn ipv4(&mut self, what: &'static str) -> Result<Ipv4Addr, DecodeError> {
        self.u32(what).map(Ipv4Addr::from)
    }

    /// The address of a host: not multicast, broadcast or 0.0.0.0.
    pub(crate) fn unicast(&mut self, what: &'static str) -> Result<Ipv4Addr, DecodeError> {
        let offset = self.offset();
        let address = self.ipv4(what)?;
        if address.is_multicast() || address.is_broadcast() || address.is_unspecified() {
            return Err(DecodeError { what, offset, kind: DecodeErrorKind::Address });
        }
        Ok(address)
    }

    pub(crate) fn take(&mut self, what: &'static str, count: usize) -> Result<&'a [u8], DecodeError> {
        // By hand: nearly all that a request under a boot storm is read with.
        let (value, rest) =
            self.rest.split_at_checked(count).ok_or_else(|| self.error(what, DecodeErrorKind::Truncated))?;
        self.rest = rest;
        Ok(value)
    }

    /// The next `count` bytes, to be read on their own.
    pub(crate) fn part(&mut self, what: &'static str, count: usize) -> Result<Self, DecodeError> {
        let offset = self.offset();
        Ok(Self::new_at(self.take(what, count)?, offset))
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let offset = self.offset();
        let bytes = self.take(what, N)?;
        bytes.try_into().map_err(|_| DecodeError { what, offset, kind: DecodeErrorKind::Truncated })
    }

    /// A name with its length in one byte before it.
    pub(crate) fn name(&mut self, what: &'static str) -> Result<FileName, DecodeError> {
        let count = usize::from(self.u8(what)?);
        let offset = self.offset();
        let bytes = self.take(what, count)?;
        FileName::new(bytes).ok_or(DecodeError { what, offset, kind: DecodeErrorKind::Text })
    }

    /// Address and port where a server hears.
    pub(crate) fn host(&mut self) -> Result<SocketAddrV4, DecodeError> {
        let address = self.unicast("address of a server")?;
        let offset = self.offset();
        match self.u16("port of a server")? {
            0 => Err(DecodeError { what: "port of a server", offset, kind: DecodeErrorKind::Value }),
            port => Ok(SocketAddrV4::new(address, port)),
        }
    }

    /// One byte of flags, of which only those in `known` may be set.
    pub(crate) fn flags(&mut self, what: &'static str, known: u8) -> Result<u8, DecodeError> {
        let offset = self.offset();
        match self.u8(what)? {
            flags if flags & !known == 0 => Ok(flags),
            _ => Err(DecodeError { what, offset, kind: DecodeErrorKind::Value }),
        }
    }

    /// At most `count_max` items, with their count in one byte before them.
    pub(crate) fn list<T>(
        &mut self,
        what: &'static str,
        count_max: usize,
        read: impl Fn(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let offset = self.offset();
        let count = self.u8(what)?;
        if usize::from(count) > count_max {
            return Err(DecodeError { what, offset, kind: DecodeErrorKind::Value });
        }
        (0..count).map(|_| read(self)).collect()
    }

    /// Reads to the end, where nothing but NULs may stand.
    pub(crate) fn only_nuls(&mut self, what: &'static str) -> Result<(), DecodeError> {
        let offset = self.offset();
        if self.remainder().iter().all(|&byte| byte == 0) {
            Ok(())
        } else {
            Err(DecodeError { what, offset, kind: DecodeErrorKind::Text })
        }
    }

    /// Everything that is left.
    pub(crate) fn remainder(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// The bytes up to the next NUL, which is consumed; without a NUL it is malformed.
    pub(crate) fn text(&mut self, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let Some(end) = self.rest.iter().position(|&byte| byte == 0) else {
            return Err(self.error(what, DecodeErrorKind::Text));
        };
        let text = self.take(what, end)?;
        self.u8(what)?;
        Ok(text)
    }

    pub(crate) fn finish(self, what: &'static str) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.error(what, DecodeErrorKind::Trailing)) }
    }
}

/// Writes `name` behind its length in one byte.
pub(crate) fn put_name(out: &mut impl BufMut, name: &FileName) {
    out.put_u8(name.len_octet());
    out.put_slice(name.as_bytes());
}

/// Writes where a server hears.
pub(crate) fn put_host(out: &mut impl BufMut, host: SocketAddrV4) {
    out.put_u32(host.ip().to_bits());
    out.put_u16(host.port());
}

/// Writes the first `count_max` of `items` behind their count in one byte: what is over is left out, so that the count
/// is always true.
pub(crate) fn put_list<T>(out: &mut Vec<u8>, items: &[T], count_max: usize, put: impl Fn(&T, &mut Vec<u8>)) {
    let count = u8::try_from(items.len().min(count_max)).unwrap_or(u8::MAX);
    out.put_u8(count);
    items.iter().take(usize::from(count)).for_each(|item| put(item, out));
}
