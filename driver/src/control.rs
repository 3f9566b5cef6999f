//! The Unix control socket of a daemon: one line of request in, text out, then the end.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener as AsyncListener, UnixStream as AsyncStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// Longest request line, in bytes, with its end.
pub const REQUEST_BYTES_MAX: u16 = 4096;
/// Most operators served at a time; the next ones wait.
const CONNECTIONS_MAX: usize = 16;
/// How long an operator may take to ask, and to read the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A daemon's control socket. Dropping it removes the socket from the file system, if it is still ours.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of our socket: who replaced it keeps it.
    identity: (u64, u64),
}

impl Listener {
    /// Binds to `path`, for owner and group only (mode 0660). A socket on which nobody answers is left over from
    /// a crash and is replaced.
    ///
    /// # Errors
    /// If a daemon answers on it, if something else lies there, or if it cannot be made; nothing is changed then.
    pub fn bind(path: &Path) -> anyhow::Result<Self> {
        clear_stale(path)?;
        let making = || format!("cannot make the control socket {}", path.display());
        let listener = UnixListener::bind(path).with_context(making)?;
        fs::set_permissions(path, Permissions::from_mode(0o660)).with_context(making)?;
        listener.set_nonblocking(true).with_context(making)?;
        let identity = identity(path).with_context(making)?;
        Ok(Self { listener, path: path.to_owned(), identity })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|now| now == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

fn clear_stale(path: &Path) -> anyhow::Result<()> {
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(error).with_context(|| format!("cannot look at the control socket {shown}"));
        }
        Ok(found) if !found.file_type().is_socket() => {
            bail!("{shown} is in the way of the control socket and is not a socket: move it")
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path)
            .with_context(|| format!("cannot remove the left-over control socket {shown}")),
        Ok(_) => bail!("another daemon answers on the control socket {shown}: give each a socket of its own"),
        Err(error) => Err(error).with_context(|| format!("cannot tell who owns the control socket {shown}")),
    }
}

/// Asks the daemon behind `path`: sends `request` (one line), gives back the whole answer. Blocks, `timeout` at
/// most for each of sending and each silence of the daemon.
///
/// # Errors
/// If nobody listens there, if we may not ask, if `request` has more than one line, or if the daemon is silent.
pub fn ask(path: &Path, request: &str, timeout: Duration) -> anyhow::Result<String> {
    let shown = path.display();
    if request.contains('\n') {
        bail!("a request is one line");
    }
    let mut stream = UnixStream::connect(path).map_err(|error| {
        let kind = error.kind();
        if matches!(kind, ErrorKind::NotFound | ErrorKind::ConnectionRefused) {
            anyhow!("no daemon answers on {shown}: is it running, with this control socket?")
        } else if kind == ErrorKind::PermissionDenied {
            anyhow!("you may not ask the daemon on {shown}: be root or of the socket's group")
        } else {
            anyhow!("cannot reach the daemon on {shown}: {error}")
        }
    })?;
    let mut answer = String::new();
    let asked = (|| {
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        stream.write_all(format!("{request}\n").as_bytes())?;
        stream.read_to_string(&mut answer)
    })();
    match asked {
        Ok(0) => bail!("the daemon on {shown} hung up without an answer"),
        Ok(_) => Ok(answer),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            bail!("the daemon on {shown} was silent for {} s", timeout.as_secs_f32())
        }
        Err(error) => Err(error).with_context(|| format!("the daemon on {shown} hung up")),
    }
}

/// An operator who waits for an answer. Dropped without one, the operator is hung up on.
#[derive(Debug)]
pub struct Operator(oneshot::Sender<String>);

impl Operator {
    /// Gives the answer. The operator may have gone.
    pub fn answer(self, text: String) {
        let _ = self.0.send(text);
    }
}

/// A request that an operator waits on.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The line, without its end.
    pub(crate) request: String,
    /// Where the answer goes.
    pub(crate) operator: Operator,
}

impl Listener {
    /// The same socket for `tokio`; `self` must outlive it, to remove it from the file system.
    pub(crate) fn for_tokio(&self) -> io::Result<AsyncListener> {
        AsyncListener::from_std(self.listener.try_clone()?)
    }
}

#[expect(clippy::disallowed_methods, reason = "driver is where waiting is done")]
/// Takes requests for ever and hands them to `asked`. A slow or silent operator hinders nobody else.
pub(crate) async fn serve(listener: AsyncListener, asked: mpsc::Sender<Asked>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) => {
                let asked = asked.clone();
                connections.spawn(async move {
                    if let Err(error) = converse(stream, asked).await {
                        tracing::debug!(%error, "an operator's request came to nothing");
                    }
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: without a pause this would spin.
                tracing::warn!(%error, "cannot take a request on the control socket");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

async fn converse(mut stream: AsyncStream, asked: mpsc::Sender<Asked>) -> anyhow::Result<()> {
    let (from, mut to) = stream.split();
    let mut line = String::new();
    let mut limited = BufReader::new(from).take(REQUEST_BYTES_MAX.into());
    tokio::time::timeout(PATIENCE, limited.read_line(&mut line)).await.context("silence")??;
    if !line.ends_with('\n') {
        bail!("the request has no end within {REQUEST_BYTES_MAX} bytes");
    }
    let (answer, answered) = oneshot::channel();
    asked.send(Asked { request: line.trim().to_owned(), operator: Operator(answer) }).await?;
    let text = answered.await?;
    tokio::time::timeout(PATIENCE, to.write_all(text.as_bytes())).await.context("unread")??;
    Ok(to.shutdown().await?)
}

#[cfg(test)]
mod tests;
