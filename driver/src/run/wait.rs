//! Step one of the loop: wait for one thing, fairly.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use anyhow::bail;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::UdpSocket;
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver, channel};
use tokio::task::JoinSet;

use crate::Time;
use crate::clock::Clock;
use crate::control::{self, Asked};
use crate::udp::{Door, Doors};

/// The one thing that happened.
#[derive(Debug)]
pub(super) enum Event<D> {
    /// The deadline may have come.
    Due,
    /// This socket has datagrams.
    Door(usize),
    /// The worker answered.
    Done(D),
    /// An operator asks.
    Asked(Asked),
    /// SIGHUP.
    Reload,
    /// SIGTERM or SIGINT.
    Stop(&'static str),
}

/// Everything that can happen.
pub(super) struct Wait<'a, D> {
    clock: &'a Clock,
    /// A timer of the kernel's, not of tokio's: it counts suspension as our clock does, and is finer than 1 ms.
    /// It is read as a pipe is: 8 bytes when it has fired.
    timer: pipe::Receiver,
    armed: Option<Time>,
    /// Duplicates of the doors' sockets, for the runtime to watch.
    doors: Vec<UdpSocket>,
    done: UnboundedReceiver<D>,
    asked: Receiver<Asked>,
    stops: [(&'static str, Signal); 2],
    reload: Signal,
    /// Where the next round of looking starts.
    turn: usize,
    /// Serves the control socket; ends with us.
    _control: JoinSet<()>,
}

impl<'a, D> Wait<'a, D> {
    pub(super) fn new(
        clock: &'a Clock,
        doors: &Doors,
        control: &control::Listener,
        done: UnboundedReceiver<D>,
    ) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
        let watch = |door: &Door| UdpSocket::from_std(door.socket.try_clone()?);
        let (ask, asked) = channel(1);
        let mut serving = JoinSet::new();
        serving.spawn(control::serve(control.for_tokio()?, ask));
        Ok(Self {
            clock,
            timer: pipe::Receiver::from_file_unchecked(File::from(timer))?,
            armed: None,
            doors: doors.all().iter().map(watch).collect::<io::Result<_>>()?,
            done,
            asked,
            stops: [
                ("SIGTERM", signal(SignalKind::terminate())?),
                ("SIGINT", signal(SignalKind::interrupt())?),
            ],
            reload: signal(SignalKind::hangup())?,
            turn: 0,
            _control: serving,
        })
    }

    /// Waits for one thing, at most until `deadline`. Every source has its turn.
    ///
    /// # Errors
    /// If the worker's thread died.
    pub(super) async fn next(&mut self, deadline: Option<Time>) -> anyhow::Result<Event<D>> {
        self.arm(deadline)?;
        poll_fn(|context| self.poll(context)).await
    }

    /// Says that datagrams were taken from a socket, and whether there may be more.
    pub(super) fn taken(&self, index: usize, more: bool) {
        if more {
            return;
        }
        if let Some(door) = self.doors.get(index) {
            // What came since then is told anew: only the runtime, which is this very thread, takes the kernel's word.
            let _ = door.try_io(Interest::READABLE, || Err::<(), _>(io::ErrorKind::WouldBlock.into()));
        }
    }

    fn arm(&mut self, deadline: Option<Time>) -> io::Result<()> {
        // One that fires too early costs a look; to set it anew for each ACK would cost a system call each.
        let Some(at) = deadline.filter(|at| self.armed.is_none_or(|armed| *at < armed)) else {
            return Ok(());
        };
        let when = Itimerspec { it_interval: Timespec::default(), it_value: self.clock.absolute(at) };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &when)?;
        self.armed = Some(at);
        Ok(())
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<anyhow::Result<Event<D>>> {
        for (name, stop) in &mut self.stops {
            if stop.poll_recv(context).is_ready() {
                return Poll::Ready(Ok(Event::Stop(name)));
            }
        }
        if self.reload.poll_recv(context).is_ready() {
            return Poll::Ready(Ok(Event::Reload));
        }
        let sources = self.doors.len() + 2;
        for step in 0..sources {
            let index = (self.turn + step) % sources;
            if let Poll::Ready(event) = self.poll_source(index, context) {
                self.turn = (index + 1) % sources;
                return Poll::Ready(event);
            }
        }
        let mut expirations = [0; 8];
        ready!(Pin::new(&mut self.timer).poll_read(context, &mut ReadBuf::new(&mut expirations)))?;
        self.armed = None;
        Poll::Ready(Ok(Event::Due))
    }

    /// The sockets by number, then the worker, then the operators.
    fn poll_source(&mut self, index: usize, context: &mut Context<'_>) -> Poll<anyhow::Result<Event<D>>> {
        if let Some(door) = self.doors.get(index) {
            ready!(door.poll_recv_ready(context))?;
            return Poll::Ready(Ok(Event::Door(index)));
        }
        if index == self.doors.len() {
            return match ready!(self.done.poll_recv(context)) {
                Some(done) => Poll::Ready(Ok(Event::Done(done))),
                None => Poll::Ready((|| bail!("the worker thread died: nothing could be stored any more"))()),
            };
        }
        match ready!(self.asked.poll_recv(context)) {
            Some(asked) => Poll::Ready(Ok(Event::Asked(asked))),
            None => Poll::Pending,
        }
    }
}
