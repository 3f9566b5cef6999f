//! Where the file goes.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};

/// What is held in memory at most, in bytes: blocks of a multicast file come in any order.
pub(super) const MEMORY_MAX: u64 = 1 << 30;

/// The SHA-256 of a file.
pub(super) type Hash = [u8; 32];

/// Takes blocks that come in any order.
pub(super) trait Store {
    /// # Errors
    /// If there is no room for it.
    fn store(&mut self, offset: u64, bytes: &[u8]) -> anyhow::Result<()>;

    /// What was stored is worth nothing.
    ///
    /// # Errors
    /// If the disk refuses it.
    fn restart(&mut self) -> anyhow::Result<()>;
}

/// A place for a file.
pub(super) enum Sink {
    /// Beside its place, until it is whole.
    File { file: File, part: PathBuf, place: PathBuf },
    /// In memory, and at the end to standard output.
    Output(Vec<u8>),
}

impl Sink {
    /// `None` is standard output.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub(super) fn new(place: Option<PathBuf>) -> anyhow::Result<Self> {
        let Some(place) = place else { return Ok(Self::Output(Vec::new())) };
        let mut part = place.clone().into_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        let mut options = File::options();
        let file = options.read(true).write(true).create(true).truncate(true).open(&part);
        let file = file.with_context(|| format!("cannot make {}", part.display()))?;
        Ok(Self::File { file, part, place })
    }

    /// All is there: it gets its name, or goes to standard output.
    ///
    /// # Errors
    /// If the disk, or whoever reads our output, refuses it. What was there under that name stays then.
    pub(super) fn finish(self) -> anyhow::Result<Hash> {
        match self {
            Self::File { mut file, part, place } => {
                let hash = hash_of(&mut file, &part)?;
                fs::rename(&part, &place).with_context(|| format!("cannot make {}", place.display()))?;
                Ok(hash)
            }
            Self::Output(image) => {
                let mut output = std::io::stdout().lock();
                output
                    .write_all(&image)
                    .and_then(|()| output.flush())
                    .context("cannot write the file out")?;
                Ok(Sha256::digest(&image).into())
            }
        }
    }

    /// It is worth nothing.
    pub(super) fn discard(self) {
        if let Self::File { part, .. } = self {
            // If it cannot be removed it does no harm: it does not have the file's name.
            let _ = fs::remove_file(part);
        }
    }
}

impl Store for Sink {
    /// Fails, too, if it is too large for memory.
    fn store(&mut self, offset: u64, bytes: &[u8]) -> anyhow::Result<()> {
        match self {
            Self::File { file, part, .. } => {
                file.write_all_at(bytes, offset).with_context(|| format!("cannot write {}", part.display()))
            }
            Self::Output(image) => {
                let end = offset.saturating_add(u64::try_from(bytes.len())?);
                ensure!(end <= MEMORY_MAX, "more than {MEMORY_MAX} bytes: write to a file with --output");
                let (start, end) = (usize::try_from(offset)?, usize::try_from(end)?);
                if image.len() < end {
                    image.resize(end, 0);
                }
                if let Some(place) = image.get_mut(start..end) {
                    place.copy_from_slice(bytes);
                }
                Ok(())
            }
        }
    }

    fn restart(&mut self) -> anyhow::Result<()> {
        match self {
            Self::File { file, part, .. } => {
                file.set_len(0).with_context(|| format!("cannot write {}", part.display()))
            }
            Self::Output(image) => {
                image.clear();
                Ok(())
            }
        }
    }
}

fn hash_of(file: &mut File, path: &Path) -> anyhow::Result<Hash> {
    let reading = || format!("cannot read {}", path.display());
    file.seek(SeekFrom::Start(0)).with_context(reading)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = file.read(&mut buffer).with_context(reading)?;
        if count == 0 {
            return Ok(hash.finalize().into());
        }
        hash.update(buffer.get(..count).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_name_only_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("file");
        fs::write(&place, "old").unwrap();
        let mut sink = Sink::new(Some(place.clone())).unwrap();
        sink.store(3, b"def").unwrap();
        sink.restart().unwrap();
        sink.store(2, b"c").unwrap();
        sink.store(0, b"ab").unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"old");
        let hash = sink.finish().unwrap();
        assert_eq!(
            (fs::read(&place).unwrap().as_slice(), hash),
            (b"abc".as_slice(), Sha256::digest(b"abc").into())
        );
        let mut sink = Sink::new(Some(place)).unwrap();
        sink.store(0, b"x").unwrap();
        sink.discard();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(Sink::new(Some(dir.path().join("no/such/dir"))).is_err());
    }

    #[test]
    fn memory_is_bounded() {
        let mut sink = Sink::Output(Vec::new());
        assert!(sink.store(MEMORY_MAX, b"x").is_err());
        assert!(sink.store(u64::MAX, b"x").is_err());
    }
}
