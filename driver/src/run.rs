//! The loop that drives a machine for real: the four steps of the crate's contract, over sockets and a clock.

mod wait;

use anyhow::Context;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::clock::Clock;
use crate::control::Operator;
use crate::udp::{Batch, Door, Doors};
use crate::{Arrival, Deadline, Time, control, host};
use wait::{Event, Wait};

/// A daemon as the loop sees it: a machine and its surroundings. After each input the loop calls
/// [`Service::flush`], before the next one.
pub trait Service {
    /// What the worker answers.
    type Done: Send + 'static;

    /// A datagram came.
    fn on_datagram(&mut self, now: Time, arrival: &Arrival<'_>);
    /// The deadline has passed.
    fn on_timeout(&mut self, now: Time);
    /// The worker has done a job.
    fn on_done(&mut self, now: Time, done: Self::Done);
    /// An operator asks, with one line, and gets this text. Other operators wait meanwhile, and so does the
    /// network.
    fn on_request(&mut self, now: Time, request: &str) -> String;
    /// As [`Service::on_request`], for a service that answers some requests later: when the store has done something,
    /// say.
    fn on_asked(&mut self, now: Time, request: &str, operator: Operator) {
        operator.answer(self.on_request(now, request));
    }
    /// An operator wants the configuration read again (SIGHUP).
    fn on_reload(&mut self, now: Time);
    /// The daemon is to end (SIGTERM, SIGINT): called once, the last input.
    fn on_stop(&mut self, now: Time);
    /// Whether the daemon is to end by its own decision; asked after each flush.
    fn has_ended(&self) -> bool {
        false
    }
    /// Takes every action out of the machine and carries it out. Also called once before the first input.
    fn flush(&mut self, now: Time, doors: &Doors);
    /// Sends what flushes kept to be sent together, if the service keeps any. Called before the loop waits: once for all
    /// datagrams that were taken from a socket together.
    fn dispatch(&mut self, _doors: &Doors) {}
    /// When [`Service::on_timeout`] is wanted; asked after each flush.
    fn next_deadline(&self) -> Option<Deadline>;
}

/// Drives `service` until SIGTERM or SIGINT. Tells systemd when it starts to serve and when it stops.
/// `done` is the receiver that came with the worker; a service without a worker keeps its sender.
///
/// # Errors
/// If the loop cannot be set up, or if the worker's thread died: nothing could be stored any more.
pub fn run<S: Service>(
    service: &mut S,
    clock: &Clock,
    doors: Doors,
    control: control::Listener,
    done: UnboundedReceiver<S::Done>,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot set up the event loop")?;
    let ended = runtime.block_on(drive(service, clock, &doors, &control, done));
    // Operators who still wait are hung up on, and the socket goes away with its listener.
    drop(runtime);
    drop(control);
    drop(doors);
    ended
}

async fn drive<S: Service>(
    service: &mut S,
    clock: &Clock,
    doors: &Doors,
    control: &control::Listener,
    done: UnboundedReceiver<S::Done>,
) -> anyhow::Result<()> {
    let mut wait = Wait::new(clock, doors, control, done).context("cannot set up the event loop")?;
    let mut batch = Batch::new();
    let mut overdue = Overdue::default();
    service.flush(clock.now(), doors);
    host::notify_ready();
    loop {
        service.dispatch(doors);
        // A due deadline comes before everything else, so that a flood cannot postpone it.
        let deadline = service.next_deadline();
        let now = clock.now();
        let due = deadline.filter(|deadline| deadline.at <= now);
        if let Some(due) = due {
            service.on_timeout(now);
            service.flush(now, doors);
            service.dispatch(doors);
            overdue.note(due, now);
        }
        if service.has_ended() {
            stop(service, clock, doors, "by its own decision");
            return Ok(());
        }
        let next = if due.is_some() { service.next_deadline() } else { deadline };
        let event = wait.next(next.map(|deadline| deadline.at)).await?;
        let now = clock.now();
        match event {
            Event::Due => continue,
            Event::Door(index) => {
                if let Some(door) = doors.all().get(index) {
                    let more = take(service, clock, doors, door, &mut batch);
                    wait.taken(index, more);
                }
                continue;
            }
            Event::Done(done) => service.on_done(now, done),
            Event::Asked(asked) => service.on_asked(now, &asked.request, asked.operator),
            Event::Reload => service.on_reload(now),
            Event::Stop(signal) => {
                stop(service, clock, doors, signal);
                return Ok(());
            }
        }
        service.flush(now, doors);
    }
}

fn stop<S: Service>(service: &mut S, clock: &Clock, doors: &Doors, why: &str) {
    tracing::info!(why, "stopping");
    host::notify_stopping();
    let now = clock.now();
    service.on_stop(now);
    service.flush(now, doors);
    service.dispatch(doors);
}

/// Takes datagrams out of one socket, one batch; true if there may be more.
fn take<S: Service>(service: &mut S, clock: &Clock, doors: &Doors, door: &Door, batch: &mut Batch) -> bool {
    let more = door.receive_batch(batch);
    for (from, bytes) in batch.iter() {
        let arrival = Arrival { role: door.role, from, to: *door.bound.ip(), bytes };
        let now = clock.now();
        service.on_datagram(now, &arrival);
        service.flush(now, doors);
    }
    more
}

/// Finds a machine that asks for the same instant for ever: a busy loop.
#[derive(Debug, Default)]
struct Overdue {
    last: Option<Deadline>,
    repeats: u64,
}

impl Overdue {
    /// Repeats of one deadline before the log says so.
    const REPEATS_MAX: u64 = 1024;

    fn note(&mut self, due: Deadline, now: Time) {
        self.repeats = if self.last == Some(due) { self.repeats + 1 } else { 0 };
        self.last = Some(due);
        if self.repeats >= Self::REPEATS_MAX && self.repeats.is_power_of_two() {
            tracing::error!(why = due.why, at = ?due.at, ?now, "a deadline stays due after it was served");
        }
    }
}

#[cfg(test)]
mod tests;
