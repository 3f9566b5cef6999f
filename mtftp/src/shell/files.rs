//! The boot directory: opened once, read only, never left.
//!
//! Names come from the network. `cap-std` resolves them below the directory's descriptor with
//! `openat2(RESOLVE_BENEATH)`: no `..`, no absolute name, no symbolic link leads out. An open file is pinned by
//! (device, inode, size, time of change): when it is replaced or changed, whoever serves it is told, and no byte goes out
//! that was read since.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, IoSliceMut};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use driver::Time;
use rustix::fs::{Stat, fstat};
use rustix::io::Errno;
use wire::FileName;

use super::chunks::{CHUNK, Chunks};
use crate::engine::{FileError, FileFacts, FileId};

/// Most files open at once: sessions, transfers, and one for a look.
pub const FILES_MAX: usize = 20_000;

/// What a file must still be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pin {
    pub(super) device: u64,
    pub(super) inode: u64,
    pub(super) size: i64,
    pub(super) changed: (i64, u64),
}

impl Pin {
    /// By `fstat`: `File::metadata` asks for more (`statx`), and this is done after each read.
    fn of(file: &File) -> io::Result<Self> {
        let Stat { st_dev, st_ino, st_size, st_mtime, st_mtime_nsec, .. } = fstat(file)?;
        Ok(Self { device: st_dev, inode: st_ino, size: st_size, changed: (st_mtime, st_mtime_nsec) })
    }
}

#[derive(Debug)]
struct Open {
    file: File,
    name: PathBuf,
    pin: Pin,
    /// When anything of it was changed last, when it was opened: unlike the pin's time nobody can set it.
    touched: (i64, i64),
    /// When the name was last seen to lead here.
    seen_at: Time,
}

impl Open {
    fn size(&self) -> Result<u64, Changed> {
        u64::try_from(self.pin.size).map_err(|_| Changed)
    }

    /// So many bytes, from the file.
    fn read(&self, offset: u64, wanted: usize, mut parts: &mut [IoSliceMut<'_>]) -> Result<(), Changed> {
        let mut have = 0;
        while have < wanted {
            match rustix::io::preadv(&self.file, parts, offset + have as u64) {
                Ok(0) => return Err(Changed),
                Ok(count) => {
                    IoSliceMut::advance_slices(&mut parts, count);
                    have += count;
                }
                Err(Errno::INTR) => {}
                Err(_) => return Err(Changed),
            }
        }
        // After the read: what was read then is what was pinned.
        let now = Pin::of(&self.file).map_err(|_| Changed)?;
        if now == self.pin && have == wanted { Ok(()) } else { Err(Changed) }
    }

    /// The same by way of the chunks, as whoever takes one block wants the next soon. One is read only for who comes to its
    /// beginning: with more readers than there are chunks, each would else be read anew for every block.
    fn read_near(
        &self,
        now: Time,
        mut offset: u64,
        mut part: &mut [u8],
        chunks: &mut Chunks,
    ) -> Result<(), Changed> {
        let block = part.len() as u64;
        while !part.is_empty() {
            let (number, within) = (offset / CHUNK, offset % CHUNK);
            let (key, begin) = ((self.pin, self.touched, number), number * CHUNK);
            let chunk = match chunks.get(now, &key) {
                Some(chunk) => chunk,
                None if within >= block => {
                    let wanted = part.len();
                    return self.read(offset, wanted, &mut [IoSliceMut::new(part)]);
                }
                None => {
                    let len = usize::try_from(CHUNK.min(self.size()?.saturating_sub(begin)));
                    let len = len.map_err(|_| Changed)?;
                    let read = |bytes: &mut [u8]| self.read(begin, len, &mut [IoSliceMut::new(bytes)]);
                    chunks.fill(now, key, len, read)?
                }
            };
            let bytes = usize::try_from(within).ok().and_then(|within| chunk.get(within..)).ok_or(Changed)?;
            let count = bytes.len().min(part.len());
            let (head, tail) = part.split_at_mut(count);
            head.copy_from_slice(bytes.get(..count).ok_or(Changed)?);
            if count == 0 {
                return Err(Changed);
            }
            (part, offset) = (tail, offset + count as u64);
        }
        Ok(())
    }
}

/// How often it is looked whether the name of a file being served still leads to it.
const LOOK_AFTER: Duration = Duration::from_secs(1);

/// The boot directory and the files that are open.
#[derive(Debug)]
pub struct Files {
    dir: Dir,
    open: BTreeMap<FileId, Open>,
    chunks: Chunks,
    last: u64,
}

/// Why a block cannot be read: the file is not what it was, or the disk fails. Nothing of it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed;

impl Files {
    /// # Errors
    /// If the directory cannot be opened.
    pub fn new(boot_dir: &Path) -> io::Result<Self> {
        let dir = Dir::open_ambient_dir(boot_dir, ambient_authority())?;
        Ok(Self { dir, open: BTreeMap::new(), chunks: Chunks::default(), last: 0 })
    }

    /// Serves another directory from now on; what is open stays open.
    ///
    /// # Errors
    /// If it cannot be opened; nothing is changed then.
    pub fn change_dir(&mut self, boot_dir: &Path) -> io::Result<()> {
        self.dir = Dir::open_ambient_dir(boot_dir, ambient_authority())?;
        Ok(())
    }

    /// Opens a file by the name a client or a BINLD gave.
    ///
    /// # Errors
    /// See [`FileError`]; nothing is open then.
    pub fn open(&mut self, now: Time, name: &FileName) -> Result<FileFacts, FileError> {
        if self.open.len() >= FILES_MAX {
            return Err(FileError::Busy);
        }
        let name = path_of(name)?;
        let file = self.open_below(&name).map_err(|error| kind_of(&error))?;
        let metadata = file.metadata().map_err(|error| kind_of(&error))?;
        if !metadata.is_file() {
            return Err(FileError::Denied);
        }
        let pin = Pin::of(&file).map_err(|error| kind_of(&error))?;
        let size = u64::try_from(pin.size).map_err(|_| FileError::Denied)?;
        self.last += 1;
        let id = FileId(self.last);
        let touched = (metadata.ctime(), metadata.ctime_nsec());
        self.open.insert(id, Open { file, name, pin, touched, seen_at: now });
        Ok(FileFacts { id, size })
    }

    fn open_below(&self, name: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        // Opening a FIFO must not block; what is not a regular file is refused by its metadata.
        options.read(true).custom_flags(i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0));
        Ok(self.dir.open_with(name, &options)?.into_std())
    }

    /// Closes a file; later reads of it give nothing.
    pub fn close(&mut self, id: FileId) {
        self.open.remove(&id);
    }

    /// How many files are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether no file is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Fills `parts`, one after the other, with what is in the file from `offset` on, less at its end; gives how many
    /// bytes. A single part may be what was read within the last second.
    ///
    /// # Errors
    /// [`Changed`] if the file is not what it was when it was opened.
    pub fn read(
        &mut self,
        now: Time,
        id: FileId,
        offset: u64,
        parts: &mut [IoSliceMut<'_>],
    ) -> Result<usize, Changed> {
        let open = self.open.get(&id).ok_or(Changed)?;
        let left = usize::try_from(open.size()?.saturating_sub(offset)).unwrap_or(usize::MAX);
        let room: usize = parts.iter().map(|part| part.len()).sum();
        let wanted = room.min(left);
        match parts {
            [part] if wanted > 0 => {
                let part = part.get_mut(..wanted).ok_or(Changed)?;
                open.read_near(now, offset, part, &mut self.chunks)?;
            }
            parts => open.read(offset, wanted, parts)?,
        }
        Ok(wanted)
    }

    /// Whether the file's name still leads to it, looked up once a second: one that was replaced is not served to
    /// its end as if nothing had happened.
    pub fn is_still_there(&mut self, now: Time, id: FileId) -> bool {
        let Some(open) = self.open.get(&id) else { return false };
        if now.since(open.seen_at) < LOOK_AFTER {
            return true;
        }
        let found = self.open_below(&open.name).and_then(|file| Pin::of(&file));
        let same = found.is_ok_and(|pin| pin == open.pin);
        if let Some(open) = self.open.get_mut(&id) {
            open.seen_at = now;
        }
        same
    }
}

/// The name as a path below the directory; anything that is not plainly one is as good as not there.
fn path_of(name: &FileName) -> Result<PathBuf, FileError> {
    let bytes = name.as_bytes();
    let odd = bytes.contains(&b'\\') || bytes.iter().any(u8::is_ascii_control);
    let upwards = bytes.split(|&byte| byte == b'/').any(|part| part == b"..");
    if odd || upwards || bytes.starts_with(b"/") {
        return Err(FileError::Denied);
    }
    Ok(Path::new(OsStr::from_bytes(bytes)).to_owned())
}

fn kind_of(error: &io::Error) -> FileError {
    let missing = [ErrorKind::NotFound, ErrorKind::NotADirectory, ErrorKind::InvalidFilename];
    let exhausted = [Errno::MFILE, Errno::NFILE].map(|errno| Some(errno.raw_os_error()));
    if missing.contains(&error.kind()) {
        FileError::NotFound
    } else if exhausted.contains(&error.raw_os_error()) {
        FileError::Busy
    } else {
        // Out of the directory, a loop of links, no permission: no difference to the one who asks.
        FileError::Denied
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> (tempfile::TempDir, Files) {
        let dir = tempfile::tempdir().unwrap();
        let boot = dir.path().join("boot");
        fs::create_dir_all(boot.join("sub")).unwrap();
        fs::write(dir.path().join("secret"), "secret").unwrap();
        fs::write(boot.join("file"), "0123456789").unwrap();
        fs::write(boot.join("sub/deep"), "deep").unwrap();
        fs::write(boot.join("empty"), "").unwrap();
        symlink("../secret", boot.join("out")).unwrap();
        symlink("/etc/passwd", boot.join("absolute")).unwrap();
        symlink("..", boot.join("up")).unwrap();
        symlink("sub/deep", boot.join("within")).unwrap();
        symlink("loop", boot.join("loop")).unwrap();
        symlink("/proc/self/root/etc/passwd", boot.join("magic")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            boot.join("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        let files = Files::new(&boot).unwrap();
        (dir, files)
    }

    fn read(files: &mut Files, id: FileId, offset: u64, buffer: &mut [u8]) -> Result<usize, Changed> {
        files.read(Time::ZERO, id, offset, &mut [IoSliceMut::new(buffer)])
    }

    fn open(files: &mut Files, name: &[u8]) -> Result<FileFacts, FileError> {
        files.open(Time::ZERO, &FileName::new(name).unwrap())
    }

    #[test]
    fn reads_regular_files_below_the_directory() {
        let (_dir, mut files) = tree();
        for (name, text) in [
            ("file", "0123456789"),
            ("sub/deep", "deep"),
            ("within", "deep"),
            ("empty", ""),
            ("./file", "0123456789"),
        ] {
            let facts = open(&mut files, name.as_bytes()).unwrap();
            let mut buffer = [0; 64];
            let count = read(&mut files, facts.id, 0, &mut buffer).unwrap();
            assert_eq!((facts.size, &buffer[..count]), (text.len() as u64, text.as_bytes()), "{name}");
        }
        assert_eq!(files.len(), 5);
    }

    #[test]
    fn reads_any_part() {
        let (_dir, mut files) = tree();
        let facts = open(&mut files, b"file").unwrap();
        let mut buffer = [0; 4];
        let reads: Vec<_> =
            [0, 8, 10, 99].iter().map(|at| read(&mut files, facts.id, *at, &mut buffer)).collect();
        assert_eq!(reads, [Ok(4), Ok(2), Ok(0), Ok(0)]);
        files.close(facts.id);
        assert_eq!(read(&mut files, facts.id, 0, &mut buffer), Err(Changed));
        assert!(files.is_empty());
    }

    /// Block by block, of any size, also where a chunk ends, and with many parts at once.
    #[test]
    fn every_byte_is_where_it_was() {
        let (dir, mut files) = tree();
        let bytes: Vec<u8> = (0..3 * CHUNK + 77).map(|at| (at * 7 % 251) as u8).collect();
        fs::write(dir.path().join("boot/large"), &bytes).unwrap();
        let facts = open(&mut files, b"large").unwrap();
        let chunk = usize::try_from(CHUNK).unwrap();
        for block in [512, 1468, 5000, 40_000] {
            let mut buffer = vec![0; block];
            for at in (0..bytes.len()).step_by(block).chain([chunk - 1, 2 * chunk + 1]) {
                let count = read(&mut files, facts.id, at as u64, &mut buffer).unwrap();
                assert_eq!(buffer[..count], bytes[at..(at + block).min(bytes.len())], "{block} at {at}");
            }
        }
        let (mut one, mut two) = ([0; 1000], [0; 1000]);
        let mut parts = [IoSliceMut::new(&mut one), IoSliceMut::new(&mut two)];
        assert_eq!(files.read(Time::ZERO, facts.id, CHUNK, &mut parts), Ok(2000));
        assert_eq!([one, two].concat(), bytes[chunk..][..2000]);
    }

    /// `security.md` 4.5: no hostile name leads out, and none opens what is not a regular file.
    #[test]
    fn hostile_names_lead_nowhere() {
        let (_dir, mut files) = tree();
        let mut names: Vec<Vec<u8>> = [
            "../secret",
            "sub/../../secret",
            "sub/../file",
            "..",
            ".",
            "sub",
            "sub/",
            "out",
            "absolute",
            "magic",
            "loop",
            "up/secret",
            "up/boot/file",
            "fifo",
            "/etc/passwd",
            "//etc/passwd",
            "/proc/self/root/etc/passwd",
            "..\\secret",
            "C:\\secret",
            "file\\..",
            "file/..",
            "file/x",
            "file/",
            "....//secret",
            "..%2fsecret",
            "%2e%2e/secret",
            "~root/x",
            "file\n",
            "\u{1b}[2J",
            "sub//../..//secret",
            ".../secret",
            "proc/self/environ",
            "./../secret",
            "nul",
            "file ",
        ]
        .iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
        // Overlong UTF-8 for `..` and `/`, other odd bytes, and depth upon depth of it.
        for odd in [
            &b"\xc0\xae\xc0\xae/secret"[..],
            b"..\xc0\xafsecret",
            b"\xe0\x80\xae./secret",
            b"\xff\xfe",
            b"\x80",
            b"\x7f",
        ] {
            names.push(odd.to_vec());
        }
        for depth in 1..40 {
            for end in ["secret", "etc/passwd", "boot/file"] {
                names.push([b"../".repeat(depth).as_slice(), end.as_bytes()].concat());
                names.push([b"sub/".as_slice(), &b"../".repeat(depth), end.as_bytes()].concat());
            }
        }
        for name in names {
            let Some(file) = FileName::new(&name) else { continue };
            assert!(files.open(Time::ZERO, &file).is_err(), "{file}");
        }
        assert!(files.is_empty());
        assert_eq!(open(&mut files, b"absent"), Err(FileError::NotFound));
    }

    #[test]
    fn a_changed_or_replaced_file_is_noticed() {
        let (dir, mut files) = tree();
        let boot = dir.path().join("boot");
        let mut buffer = [0; 4];
        // Replaced by another of the same size: the open one can still be read, and the name tells.
        let facts = open(&mut files, b"file").unwrap();
        let later = |seconds| Time::ZERO + Duration::from_secs(seconds);
        assert!(files.is_still_there(later(1), facts.id));
        fs::write(boot.join("new"), "abcdefghij").unwrap();
        fs::rename(boot.join("new"), boot.join("file")).unwrap();
        assert!(files.is_still_there(later(1), facts.id), "not looked up before a second is over");
        assert!(!files.is_still_there(later(2), facts.id));
        files.close(facts.id);
        // Shortened in place.
        let facts = open(&mut files, b"file").unwrap();
        fs::write(boot.join("file"), "abc").unwrap();
        assert_eq!(read(&mut files, facts.id, 0, &mut buffer), Err(Changed));
        assert_eq!(read(&mut files, facts.id, 4, &mut buffer), Err(Changed));
        files.close(facts.id);
        // Written over, and its time set back: who opens it now is not served what was read before.
        let now = |file: &str| fs::metadata(boot.join(file)).unwrap();
        let facts = open(&mut files, b"file").unwrap();
        assert_eq!((read(&mut files, facts.id, 0, &mut buffer), &buffer[..3]), (Ok(3), &b"abc"[..]));
        let before = now("file");
        while now("file").ctime_nsec() == before.ctime_nsec() {
            fs::write(boot.join("file"), "xyz").unwrap();
            File::options()
                .append(true)
                .open(boot.join("file"))
                .unwrap()
                .set_modified(before.modified().unwrap())
                .unwrap();
        }
        assert_eq!(Pin::of(&File::open(boot.join("file")).unwrap()).unwrap(), files.open[&facts.id].pin);
        let again = open(&mut files, b"file").unwrap();
        assert_eq!((read(&mut files, again.id, 0, &mut buffer), &buffer[..3]), (Ok(3), &b"xyz"[..]));
        files.close(facts.id);
        files.close(again.id);
        // Removed.
        let facts = open(&mut files, b"file").unwrap();
        fs::remove_file(boot.join("file")).unwrap();
        assert!(!files.is_still_there(later(2), facts.id));
    }
}
