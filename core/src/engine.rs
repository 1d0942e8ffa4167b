//! The only thread that computes. Pages ask for jobs by value; answers come back when they are ready.
//!
//! A page asks every frame; a job equal to the last one asked in its slot is not sent again. A slot has one job at most
//! waiting: a newer one takes its place. A job already running is finished, or, if it reports progress, stopped at the next
//! report in favour of the newer one. The newest answer of a slot stays until a newer one is there, so that nothing on the
//! screen goes empty while a slider moves.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::job::{Answer, Job, JobError, Progress, Workshop};

/// What a slot holds: the newest outcome, and whether a newer one is on its way.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The newest answer, of the last job or of one before it.
    pub answer: Option<Answer>,
    /// Why the last job has no answer.
    pub error: Option<Arc<JobError>>,
    /// Whether the last job asked is still waiting or running.
    pub busy: bool,
    /// How far it is: what, done, total.
    pub progress: Option<(&'static str, usize, usize)>,
}

#[derive(Default)]
struct Slot {
    wanted: Option<Job>,
    reply: Reply,
}

#[derive(Default)]
struct Desk {
    slots: HashMap<&'static str, Slot>,
    /// Slots whose job waits, oldest first.
    queue: VecDeque<&'static str>,
    running: Option<(&'static str, Job)>,
    /// Asks the running job to stop.
    cancel: bool,
    quit: bool,
}

struct Shared {
    desk: Mutex<Desk>,
    work: Condvar,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Shared {
    /// The desk; a panic elsewhere leaves it consistent, for it is only ever held between two steps.
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The worker thread, and the desk where jobs and answers lie.
pub struct Engine {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Starts the thread. `wake` is called whenever an answer or a report of progress is there.
    ///
    /// # Errors
    /// When the system refuses the thread.
    pub fn start(workshop: Workshop, wake: impl Fn() + Send + Sync + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            desk: Mutex::default(),
            work: Condvar::new(),
            wake: Box::new(wake),
        });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("engine".to_owned())
            .spawn(move || serve(&theirs, workshop))?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Asks for a job in a slot, unless it is the one last asked there, and gives what the slot holds now.
    pub fn ask(&self, slot: &'static str, job: Job) -> Reply {
        let mut desk = self.shared.desk();
        let entry = desk.slots.entry(slot).or_default();
        if entry.wanted.as_ref() != Some(&job) {
            entry.wanted = Some(job);
            entry.reply.busy = true;
            entry.reply.error = None;
            entry.reply.progress = None;
            if !desk.queue.contains(&slot) {
                desk.queue.push_back(slot);
            }
            self.shared.work.notify_one();
        }
        desk.slots.entry(slot).or_default().reply.clone()
    }

    /// What a slot holds, without asking for anything.
    pub fn reply(&self, slot: &'static str) -> Reply {
        self.shared
            .desk()
            .slots
            .get(slot)
            .map(|slot| slot.reply.clone())
            .unwrap_or_default()
    }

    /// Whether anything waits or runs.
    pub fn is_busy(&self) -> bool {
        let desk = self.shared.desk();
        desk.running.is_some() || !desk.queue.is_empty()
    }

    /// Stops a slot's job: one that waits is dropped, one that runs ends at its next report and answers with what it has.
    pub fn cancel(&self, slot: &'static str) {
        let mut desk = self.shared.desk();
        desk.queue.retain(|waiting| *waiting != slot);
        let running = desk
            .running
            .as_ref()
            .is_some_and(|(running, _)| *running == slot);
        if running {
            desk.cancel = true;
        } else if let Some(entry) = desk.slots.get_mut(slot) {
            entry.reply.busy = false;
        }
    }

    /// Lets the same job be asked again, as after a cancel; the answer stays.
    pub fn allow_again(&self, slot: &'static str) {
        if let Some(entry) = self.shared.desk().slots.get_mut(slot) {
            entry.wanted = None;
        }
    }

    /// Drops a slot: its job, its answer.
    pub fn forget(&self, slot: &'static str) {
        self.cancel(slot);
        self.shared.desk().slots.remove(slot);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let mut desk = self.shared.desk();
        desk.quit = true;
        desk.cancel = true;
        drop(desk);
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic of the worker has already been answered; there is no one left to tell.
            let _ = thread.join();
        }
    }
}

/// The worker's life: take the oldest waiting slot, compute, answer.
fn serve(shared: &Shared, mut workshop: Workshop) {
    while let Some((slot, job)) = next_job(shared) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            workshop.run(&job, &mut |progress| report(shared, slot, progress))
        }));
        let outcome = outcome.unwrap_or_else(|panic| {
            workshop.reset();
            Err(JobError::Panicked(panic_text(&*panic)))
        });
        finish(shared, slot, &job, outcome);
    }
}

fn next_job(shared: &Shared) -> Option<(&'static str, Job)> {
    let mut desk = shared.desk();
    loop {
        if desk.quit {
            return None;
        }
        if let Some(slot) = desk.queue.pop_front() {
            if let Some(job) = desk.slots.get(slot).and_then(|entry| entry.wanted.clone()) {
                desk.running = Some((slot, job.clone()));
                desk.cancel = false;
                return Some((slot, job));
            }
        } else {
            desk = shared
                .work
                .wait(desk)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Notes a report on the desk; says whether the job should stop.
fn report(shared: &Shared, slot: &'static str, progress: Progress) -> ControlFlow<()> {
    let mut desk = shared.desk();
    // A newer job waits in the same slot, or someone wants this one stopped.
    let stop = desk.cancel || desk.queue.contains(&slot);
    if let Some(entry) = desk.slots.get_mut(slot) {
        match progress {
            Progress::Count { what, done, total } => {
                entry.reply.progress = Some((what, done, total))
            }
            Progress::Partial(answer) => entry.reply.answer = Some(answer),
        }
    }
    drop(desk);
    (shared.wake)();
    if stop {
        ControlFlow::Break(())
    } else {
        ControlFlow::Continue(())
    }
}

fn finish(shared: &Shared, slot: &'static str, job: &Job, outcome: Result<Answer, JobError>) {
    let mut desk = shared.desk();
    desk.running = None;
    if let Some(entry) = desk.slots.get_mut(slot) {
        // Of a job that was superseded the answer is still the newest there is; its error is not.
        let current = entry.wanted.as_ref().is_none_or(|wanted| wanted == job);
        match outcome {
            Ok(answer) => entry.reply.answer = Some(answer),
            Err(error) if current => entry.reply.error = Some(Arc::new(error)),
            Err(_) => {}
        }
        if current {
            entry.reply.busy = false;
            entry.reply.progress = None;
        }
    }
    drop(desk);
    (shared.wake)();
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}
