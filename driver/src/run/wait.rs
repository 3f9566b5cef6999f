//! Step one of the loop: wait for one thing, fairly.
//!
//! Each source has a call bell of its own ([`Bells`]): one that has not rung since it had nothing is not looked at. A packet
//! costs a look at its socket, not one at everything that may ever happen.

use std::fs::File;
use std::future::poll_fn;
use std::io;
use std::net::UdpSocket;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker, ready};

use anyhow::bail;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, Interest, ReadBuf};
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
    /// Duplicates of the doors' sockets, for the runtime to watch; not for room to send, which comes with every packet that
    /// has left and would wake us each time.
    doors: Vec<AsyncFd<UdpSocket>>,
    done: UnboundedReceiver<D>,
    asked: Receiver<Asked>,
    stops: [(&'static str, Signal); 2],
    reload: Signal,
    bells: Bells,
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
        let (ask, asked) = channel(1);
        let mut serving = JoinSet::new();
        serving.spawn(control::serve(control.for_tokio()?, ask));
        Ok(Self {
            clock,
            timer: pipe::Receiver::from_file_unchecked(File::from(timer))?,
            armed: None,
            bells: Bells::new(doors.all().len() + OTHERS),
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
            let _ = door.try_io(Interest::READABLE, |_| Err::<(), _>(io::ErrorKind::WouldBlock.into()));
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
        self.bells.lead_to(context.waker());
        let (fair, turn) = (self.doors.len() + 2, self.turn);
        // Signals come first, and to look at the clock last: the loop does that each time anyway.
        let order = (fair..fair + 3).chain((0..fair).map(|step| (turn + step) % fair)).chain([fair + 3]);
        for index in order {
            let Some(waker) = self.bells.answer(index).cloned() else { continue };
            if let Poll::Ready(event) = self.poll_source(index, &mut Context::from_waker(&waker)) {
                // There may be more.
                self.bells.keep(index);
                if index < fair {
                    self.turn = (index + 1) % fair;
                }
                return Poll::Ready(event);
            }
        }
        Poll::Pending
    }

    /// The sockets by number, then the [`OTHERS`]: the worker, the operators, the signals that end us, that to reload, the timer.
    fn poll_source(&mut self, index: usize, context: &mut Context<'_>) -> Poll<anyhow::Result<Event<D>>> {
        if let Some(door) = self.doors.get(index) {
            // Stays ready until [`Self::taken`].
            let _ = ready!(door.poll_read_ready(context))?;
            return Poll::Ready(Ok(Event::Door(index)));
        }
        match index - self.doors.len() {
            0 => match ready!(self.done.poll_recv(context)) {
                Some(done) => Poll::Ready(Ok(Event::Done(done))),
                None => Poll::Ready((|| bail!("the worker thread died: nothing could be stored any more"))()),
            },
            1 => match ready!(self.asked.poll_recv(context)) {
                Some(asked) => Poll::Ready(Ok(Event::Asked(asked))),
                None => Poll::Pending,
            },
            stop @ (2 | 3) => {
                let (name, signal) = &mut self.stops[stop - 2];
                signal.poll_recv(context).map(|_| Ok(Event::Stop(name)))
            }
            4 => self.reload.poll_recv(context).map(|_| Ok(Event::Reload)),
            _ => {
                let mut expirations = [0; 8];
                ready!(Pin::new(&mut self.timer).poll_read(context, &mut ReadBuf::new(&mut expirations)))?;
                self.armed = None;
                Poll::Ready(Ok(Event::Due))
            }
        }
    }
}

/// Has the runtime watch what comes through a door.
#[expect(
    deprecated,
    reason = "its successor is unsafe for the sake of types whose descriptor changes; a socket keeps its own"
)]
fn watch(door: &Door) -> io::Result<AsyncFd<UdpSocket>> {
    AsyncFd::with_interest(door.socket.try_clone()?, Interest::READABLE)
}

/// Sources beside the sockets.
const OTHERS: usize = 6;

/// Which sources have rung: something may have happened there.
struct Bells {
    bells: Vec<(Arc<Bell>, Waker)>,
    /// Who waits for all of them.
    task: Arc<Mutex<Option<Waker>>>,
}

/// What a source is given to ring with.
struct Bell {
    rung: AtomicBool,
    task: Arc<Mutex<Option<Waker>>>,
}

impl Bells {
    /// For so many sources; all have rung, for nobody has looked yet.
    fn new(count: usize) -> Self {
        let task = Arc::default();
        let bell = || Arc::new(Bell { rung: AtomicBool::new(true), task: Arc::clone(&task) });
        let bells = (0..count).map(|_| bell()).map(|bell| (Arc::clone(&bell), Waker::from(bell))).collect();
        Self { bells, task }
    }

    /// They wake this one from now on.
    fn lead_to(&self, waker: &Waker) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if !task.as_ref().is_some_and(|there| there.will_wake(waker)) {
            *task = Some(waker.clone());
        }
    }

    /// If that source has rung: what it is to ring the next time. It has not rung any more.
    fn answer(&self, source: usize) -> Option<&Waker> {
        let (bell, waker) = self.bells.get(source)?;
        bell.rung.swap(false, Ordering::AcqRel).then_some(waker)
    }

    /// Has that source looked at again in any case.
    fn keep(&self, source: usize) {
        if let Some((bell, _)) = self.bells.get(source) {
            bell.rung.store(true, Ordering::Release);
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        if let Some(task) = &*self.task.lock().unwrap_or_else(PoisonError::into_inner) {
            task.wake_by_ref();
        }
    }
}
