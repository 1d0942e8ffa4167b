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
    /// Tells a slot from an earlier one of the same name that was forgotten.
    number: u64,
    wanted: Option<Job>,
    reply: Reply,
}

/// A job on the worker, and the slot it is for.
struct Running {
    slot: &'static str,
    number: u64,
    job: Job,
}

#[derive(Default)]
struct Desk {
    slots: HashMap<&'static str, Slot>,
    /// Slots whose job waits, oldest first.
    queue: VecDeque<&'static str>,
    running: Option<Running>,
    /// Slots made so far.
    slots_made: u64,
    /// Asks the running job to stop.
    cancel: bool,
    quit: bool,
}

impl Desk {
    /// The slot of that name, a new one where there is none.
    fn slot(&mut self, name: &'static str) -> &mut Slot {
        self.slots.entry(name).or_insert_with(|| {
            self.slots_made += 1;
            Slot {
                number: self.slots_made,
                ..Slot::default()
            }
        })
    }

    /// The slot the running job answers to, unless it has been forgotten.
    fn running_slot(&mut self) -> Option<&mut Slot> {
        let running = self.running.as_ref()?;
        self.slots
            .get_mut(running.slot)
            .filter(|slot| slot.number == running.number)
    }
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
        let entry = desk.slot(slot);
        let is_new = entry.wanted.as_ref() != Some(&job);
        if is_new {
            entry.wanted = Some(job);
            entry.reply.busy = true;
            entry.reply.error = None;
            entry.reply.progress = None;
        }
        let reply = entry.reply.clone();
        if is_new {
            if !desk.queue.contains(&slot) {
                desk.queue.push_back(slot);
            }
            self.shared.work.notify_one();
        }
        reply
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
        let running = desk.running.as_ref().filter(|running| running.slot == slot);
        let job = running.map(|running| running.job.clone());
        if let (Some(job), Some(entry)) = (job, desk.running_slot()) {
            // The answer to come is then the slot's last, whatever had been asked behind it.
            entry.wanted = Some(job);
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
    while let Some(job) = next_job(shared) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            workshop.run(&job, &mut |progress| report(shared, progress))
        }));
        let outcome = outcome.unwrap_or_else(|panic| {
            workshop.reset();
            Err(JobError::Panicked(panic_text(&*panic)))
        });
        finish(shared, &job, outcome);
    }
}

fn next_job(shared: &Shared) -> Option<Job> {
    let mut desk = shared.desk();
    loop {
        if desk.quit {
            return None;
        }
        let Some(slot) = desk.queue.pop_front() else {
            desk = shared
                .work
                .wait(desk)
                .unwrap_or_else(PoisonError::into_inner);
            continue;
        };
        let Some(entry) = desk.slots.get_mut(slot) else {
            continue;
        };
        let number = entry.number;
        match entry.wanted.clone() {
            Some(job) => {
                desk.running = Some(Running {
                    slot,
                    number,
                    job: job.clone(),
                });
                desk.cancel = false;
                return Some(job);
            }
            // Taken back while it waited.
            None => entry.reply.busy = false,
        }
    }
}

/// Notes a report on the desk; says whether the job should stop.
fn report(shared: &Shared, progress: Progress) -> ControlFlow<()> {
    let mut desk = shared.desk();
    // Someone wants this job stopped, forgot it, or has a newer one waiting in its slot.
    let overtaken = desk
        .running
        .as_ref()
        .is_some_and(|running| desk.queue.contains(&running.slot));
    let stop = match desk.running_slot() {
        Some(entry) => {
            match progress {
                Progress::Count { what, done, total } => {
                    entry.reply.progress = Some((what, done, total));
                }
                Progress::Partial(answer) => entry.reply.answer = Some(answer),
            }
            desk.cancel || overtaken
        }
        None => true,
    };
    drop(desk);
    (shared.wake)();
    if stop {
        ControlFlow::Break(())
    } else {
        ControlFlow::Continue(())
    }
}

fn finish(shared: &Shared, job: &Job, outcome: Result<Answer, JobError>) {
    let mut desk = shared.desk();
    let queued = desk
        .running
        .as_ref()
        .is_some_and(|running| desk.queue.contains(&running.slot));
    if let Some(entry) = desk.running_slot() {
        // Of a job that was superseded the answer is still the newest there is; its error is not.
        // A job asked again behind a newer one that took its place is stopped and waits to run once more.
        let current = !queued && entry.wanted.as_ref().is_none_or(|wanted| wanted == job);
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
    desk.running = None;
    drop(desk);
    (shared.wake)();
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}
