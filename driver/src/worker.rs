//! One thread that carries out blocking jobs, in order, many at a time: the store.

use std::sync::mpsc;
use std::thread;

use tokio::sync::mpsc as done;

/// Most jobs of one batch: bounds how long the first of them waits for its answer.
pub const BATCH_JOBS_MAX: usize = 1024;

/// The jobs' end of the thread. Dropping it finishes every job that was submitted, then ends the thread.
#[derive(Debug)]
pub struct Worker<J> {
    jobs: Option<mpsc::Sender<J>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// Starts a thread called `name` (the kernel shows 15 bytes of it) that gives `work` what has been submitted
/// since it last came back, at most [`BATCH_JOBS_MAX`] jobs, oldest first; what `work` returns comes out of the
/// receiver, in order. The receiver ends after the last answer once the worker is dropped, or if `work` panics.
///
/// # Panics
/// If the system gives no thread: nothing has started yet that could be lost.
pub fn spawn<J, D>(
    name: &str,
    mut work: impl FnMut(Vec<J>) -> Vec<D> + Send + 'static,
) -> (Worker<J>, done::UnboundedReceiver<D>)
where
    J: Send + 'static,
    D: Send + 'static,
{
    let (jobs, submitted) = mpsc::channel();
    let (answer, answers) = done::unbounded_channel();
    let body = move || {
        while let Ok(first) = submitted.recv() {
            let mut batch = vec![first];
            batch.extend(submitted.try_iter().take(BATCH_JOBS_MAX - 1));
            for done in work(batch) {
                // Nobody listens any more while the daemon stops; the jobs are done all the same.
                let _ = answer.send(done);
            }
        }
    };
    let thread = thread::Builder::new().name(name.to_owned()).spawn(body);
    let thread = thread.expect("the system gives a starting daemon its one thread");
    (Worker { jobs: Some(jobs), thread: Some(thread) }, answers)
}

impl<J> Worker<J> {
    /// Hands over a job; never blocks. If the thread is dead the job is lost, and the receiver has ended to say so.
    pub fn submit(&self, job: J) {
        if self.jobs.as_ref().is_none_or(|jobs| jobs.send(job).is_err()) {
            tracing::debug!("a job came after the end of its worker");
        }
    }
}

impl<J> Drop for Worker<J> {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(Err(_)) = self.thread.take().map(thread::JoinHandle::join) {
            tracing::error!("a worker thread panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_keep_their_order_and_gather_into_batches() {
        let (gate, opened) = mpsc::channel::<()>();
        let (begun, beginning) = mpsc::channel::<()>();
        let (worker, mut answers) = spawn("batches", move |jobs: Vec<usize>| {
            let _ = begun.send(());
            let _ = opened.recv();
            vec![jobs]
        });
        worker.submit(0);
        beginning.recv().unwrap();
        // The thread holds job 0: all that follows must come in the next batches.
        (1..=BATCH_JOBS_MAX + 1).for_each(|job| worker.submit(job));
        drop(gate);
        drop(worker);
        let batches: Vec<Vec<usize>> = std::iter::from_fn(|| answers.blocking_recv()).collect();
        assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), [1, BATCH_JOBS_MAX, 1]);
        assert!(batches.concat().iter().copied().eq(0..=BATCH_JOBS_MAX + 1));
    }

    #[test]
    fn dropping_finishes_every_job_even_if_nobody_listens() {
        let (seen, sight) = mpsc::channel();
        let (worker, answers) = spawn("finish", move |jobs: Vec<u32>| {
            jobs.iter().for_each(|&job| seen.send(job).unwrap());
            jobs
        });
        drop(answers);
        (0..100).for_each(|job| worker.submit(job));
        drop(worker);
        assert!(sight.try_iter().eq(0..100));
    }

    #[test]
    fn a_dead_thread_ends_the_answers_and_takes_jobs_in_silence() {
        let (worker, mut answers) = spawn("dies", |_: Vec<()>| -> Vec<()> { panic!("on purpose") });
        worker.submit(());
        assert_eq!(answers.blocking_recv(), None);
        worker.submit(());
    }
}
