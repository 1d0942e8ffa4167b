//! The worker thread: what is asked twice is computed once, what is overtaken is skipped, and a panic is an answer.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mambascope_core::backend::{Backend, BackendError, FastBackend, Session};
use mambascope_core::engine::{Engine, Reply};
use mambascope_core::export::{Later, Picture};
use mambascope_core::generate::{Finish, Sampling};
use mambascope_core::job::{Answer, Job, JobError, ModelRef, Progress, Workshop, prompt_ids};
use mambascope_core::model::Model;
use mambascope_core::scan::{ScanInput, ScanOutput, SsdInput, SsdOutput};
use mambascope_core::study::{Study, StudyJob};
use mambascope_core::trace::DEFAULT_BUDGET;
use mambascope_core::trace_file::TraceJob;
use mambascope_core::watch::WatchJob;

use crate::support::{Arrays, embedded, load};

/// Opens sessions as the quick backend does, counts them, and fails on purpose where told to.
struct Counted {
    inner: FastBackend,
    opened: Arc<AtomicUsize>,
    panics: bool,
    /// Held by a test to keep the worker busy.
    gate: Arc<Mutex<()>>,
}

impl Backend for Counted {
    fn name(&self) -> &'static str {
        if self.panics { "panics" } else { "fast" }
    }

    fn open(&mut self, model: &Arc<Model>) -> Result<Box<dyn Session>, BackendError> {
        assert!(!self.panics, "a defect on purpose");
        self.opened.fetch_add(1, Ordering::SeqCst);
        drop(self.gate.lock().unwrap());
        self.inner.open(model)
    }

    fn scan(&mut self, input: &ScanInput<'_, f32>) -> Result<ScanOutput<f32>, BackendError> {
        self.inner.scan(input)
    }

    fn ssd(
        &mut self,
        input: &SsdInput<'_, f32>,
        chunk: usize,
    ) -> Result<SsdOutput<f32>, BackendError> {
        self.inner.ssd(input, chunk)
    }
}

struct Setup {
    engine: Engine,
    opened: Arc<AtomicUsize>,
    gate: Arc<Mutex<()>>,
    wakes: Arc<AtomicUsize>,
}

fn setup() -> Setup {
    let (opened, gate, wakes) = (
        Arc::<AtomicUsize>::default(),
        Arc::<Mutex<()>>::default(),
        Arc::<AtomicUsize>::default(),
    );
    let backend = |panics| -> Box<dyn Backend> {
        let inner = FastBackend::new(1).unwrap();
        Box::new(Counted {
            inner,
            opened: Arc::clone(&opened),
            panics,
            gate: Arc::clone(&gate),
        })
    };
    let theirs = Arc::clone(&wakes);
    let wake = move || {
        theirs.fetch_add(1, Ordering::SeqCst);
    };
    let engine = Engine::start(Workshop::new(vec![backend(false), backend(true)]), wake).unwrap();
    Setup {
        engine,
        opened,
        gate,
        wakes,
    }
}

fn watch(model: &Arc<Model>, backend: &str, seed: u64) -> Job {
    Job::Watch(WatchJob {
        model: ModelRef(Arc::clone(model)),
        backend: backend.to_owned(),
        prompt: vec![5, 6, 7].into(),
        write: 5,
        sampling: Sampling {
            seed,
            ..Sampling::default()
        },
        layer: 0,
        token: None,
        window: 256,
    })
}

fn wait(engine: &Engine, slot: &'static str) -> Reply {
    let start = Instant::now();
    loop {
        let reply = engine.reply(slot);
        if !reply.busy {
            return reply;
        }
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "no answer in {slot}"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn the_same_job_is_computed_once() {
    let setup = setup();
    let model = embedded();
    for _ in 0..5 {
        setup.engine.ask("a", watch(&model, "fast", 1));
        wait(&setup.engine, "a");
    }
    assert_eq!(setup.opened.load(Ordering::SeqCst), 1);
    assert!(
        setup.wakes.load(Ordering::SeqCst) >= 1,
        "the window is woken"
    );
    setup.engine.ask("a", watch(&model, "fast", 2));
    wait(&setup.engine, "a");
    assert_eq!(setup.opened.load(Ordering::SeqCst), 2);
}

#[test]
fn overtaken_jobs_are_skipped_and_the_old_answer_stays() {
    let setup = setup();
    let model = embedded();
    setup.engine.ask("a", watch(&model, "fast", 1));
    wait(&setup.engine, "a");
    let held = setup.gate.lock().unwrap();
    for seed in 2..50 {
        let reply = setup.engine.ask("a", watch(&model, "fast", seed));
        assert!(
            reply.busy && reply.answer.is_some(),
            "nothing goes empty while a slider moves"
        );
    }
    drop(held);
    wait(&setup.engine, "a");
    let opened = setup.opened.load(Ordering::SeqCst);
    assert!(
        opened <= 3,
        "the first, at most one in between, and the last: {opened}"
    );
}

#[test]
fn back_and_forth_is_busy_until_the_last_word() {
    let setup = setup();
    let model = embedded();
    let held = setup.gate.lock().unwrap();
    setup.engine.ask("a", watch(&model, "fast", 1));
    wait_until_opened(&setup, 1);
    setup.engine.ask("a", watch(&model, "fast", 2));
    setup.engine.ask("a", watch(&model, "fast", 1));
    drop(held);
    let reply = wait(&setup.engine, "a");
    let Some(Answer::Watched(watched)) = reply.answer else {
        panic!("no text")
    };
    assert_eq!(
        watched.finish,
        Some(Finish::Limit),
        "not the one that was stopped"
    );
    assert!(!setup.engine.is_busy());
}

#[test]
fn a_panic_is_an_answer_and_the_engine_goes_on() {
    let setup = setup();
    let model = embedded();
    setup.engine.ask("a", watch(&model, "panics", 1));
    let error = wait(&setup.engine, "a").error.unwrap();
    assert!(
        matches!(*error, JobError::Panicked(_))
            && error.to_string().contains("a defect on purpose"),
        "{error}"
    );
    setup.engine.ask("a", watch(&model, "fast", 1));
    let reply = wait(&setup.engine, "a");
    assert!(reply.error.is_none() && matches!(reply.answer, Some(Answer::Watched(_))));
}

#[test]
fn unknown_backends_and_broken_models_are_described() {
    let setup = setup();
    setup.engine.ask("a", watch(&embedded(), "quantum", 1));
    let error = wait(&setup.engine, "a").error.unwrap().to_string();
    assert!(
        error.contains("quantum") && error.contains("fast"),
        "{error}"
    );
    setup
        .engine
        .ask("m", Job::Load(PathBuf::from("/nowhere/at/all")));
    let error = wait(&setup.engine, "m").error.unwrap().to_string();
    assert!(error.contains("/nowhere/at/all"), "{error}");
}

#[test]
fn cancel_forget_and_ask_again() {
    let setup = setup();
    let model = embedded();
    let held = setup.gate.lock().unwrap();
    setup.engine.ask("a", watch(&model, "fast", 1));
    setup.engine.ask("b", watch(&model, "fast", 2));
    setup.engine.cancel("b");
    assert!(!setup.engine.reply("b").busy);
    drop(held);
    assert!(wait(&setup.engine, "a").answer.is_some());
    assert!(setup.engine.reply("b").answer.is_none(), "it never ran");
    setup.engine.allow_again("b");
    setup.engine.ask("b", watch(&model, "fast", 2));
    assert!(wait(&setup.engine, "b").answer.is_some());
    setup.engine.forget("b");
    assert!(setup.engine.reply("b").answer.is_none());
}

/// Waits until the worker is in its `count`-th job.
fn wait_until_opened(setup: &Setup, count: usize) {
    let start = Instant::now();
    while setup.opened.load(Ordering::SeqCst) < count {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "the worker never began"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn cancel_reaches_the_job_that_waits_behind_the_running_one() {
    let setup = setup();
    let model = embedded();
    let held = setup.gate.lock().unwrap();
    setup.engine.ask("a", watch(&model, "fast", 1));
    wait_until_opened(&setup, 1);
    setup.engine.ask("a", watch(&model, "fast", 2));
    setup.engine.cancel("a");
    drop(held);
    let reply = wait(&setup.engine, "a");
    assert!(reply.progress.is_none() && !setup.engine.is_busy());
    assert_eq!(
        setup.opened.load(Ordering::SeqCst),
        1,
        "the one that waited never ran"
    );
}

#[test]
fn what_was_forgotten_does_not_come_back() {
    let setup = setup();
    let model = embedded();
    let held = setup.gate.lock().unwrap();
    setup.engine.ask("a", watch(&model, "fast", 1));
    wait_until_opened(&setup, 1);
    setup.engine.forget("a");
    setup.engine.ask("a", watch(&model, "panics", 2));
    drop(held);
    let reply = wait(&setup.engine, "a");
    assert!(
        reply.error.is_some() && reply.answer.is_none(),
        "the answer of a forgotten job was shown"
    );

    let held = setup.gate.lock().unwrap();
    setup.engine.ask("a", watch(&model, "fast", 3));
    wait_until_opened(&setup, 2);
    setup.engine.forget("a");
    setup.engine.ask("a", watch(&model, "fast", 4));
    setup.engine.cancel("a");
    assert!(
        !setup.engine.reply("a").busy,
        "nothing of this slot waits or runs"
    );
    drop(held);
}

#[test]
fn a_waiting_job_that_is_taken_back_leaves_the_slot_at_rest() {
    let setup = setup();
    let model = embedded();
    let held = setup.gate.lock().unwrap();
    setup.engine.ask("a", watch(&model, "fast", 1));
    wait_until_opened(&setup, 1);
    setup.engine.ask("b", watch(&model, "fast", 2));
    setup.engine.allow_again("b");
    drop(held);
    assert!(wait(&setup.engine, "b").answer.is_none());
}

#[test]
fn a_trace_names_each_array_once() {
    let model = load("mamba1-tiny");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.safetensors");
    let trace = TraceJob {
        ids: vec![1, 2, 3].into(),
        layers: vec![1, 0, 1],
        probes: [TraceJob::PROBES, TraceJob::PROBES].concat(),
        write: 0,
        budget: DEFAULT_BUDGET,
        backend: "fast".to_owned(),
        model: ModelRef(model),
    };
    let mut workshop = Workshop::new(vec![Box::new(FastBackend::new(1).unwrap())]);
    let job = Job::SaveTrace {
        path: path.clone(),
        trace,
    };
    workshop
        .run(&job, &mut |_| ControlFlow::Continue(()))
        .unwrap();
    let found = Arrays::read(path);
    assert_eq!(
        found.values.len(),
        2 + 2 * 6,
        "ids, logits, and six arrays a layer"
    );
}

#[test]
fn prompts_become_ids_or_say_why_not() {
    let (with, without) = (embedded(), load("mamba1-tiny"));
    assert!(prompt_ids(&with, "A cold evening").unwrap().len() >= 3);
    assert_eq!(prompt_ids(&without, " 12, 7\n40").unwrap(), [12, 7, 40]);
    for (model, text, hint) in [
        (&with, "", "empty"),
        (&without, " \n", "empty"),
        (&without, "12, x", "no tokenizer.json"),
        (&without, "-1", "not a token id"),
    ] {
        let error = prompt_ids(model, text).unwrap_err().to_string();
        assert!(error.contains(hint), "{error}");
    }
    let megabyte = "It was the best of times. ".repeat(40_000);
    let start = Instant::now();
    assert!(prompt_ids(&with, &megabyte).unwrap().len() > 100_000);
    assert!(start.elapsed() < Duration::from_secs(30));
}

#[test]
fn files_are_written_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let mut workshop = Workshop::new(Vec::new());
    let mut run = |job| workshop.run(&job, &mut |_| ControlFlow::Continue(()));
    let path = folder.path().join("table.csv");
    let save = |path: &PathBuf, text: &'static str| Job::SaveText {
        path: path.clone(),
        text: Later::new(|| text.to_owned()),
    };
    assert!(matches!(run(save(&path, "a,b\n")), Ok(Answer::Saved(_, 4))));
    run(save(&path, "c,d,e\n")).unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "c,d,e\n");

    let picture = |width| {
        Later::new(move || Picture {
            width,
            height: 2,
            rgba: vec![200; 24],
        })
    };
    let png = folder.path().join("p.png");
    run(Job::SavePicture {
        path: png.clone(),
        picture: picture(3),
    })
    .unwrap();
    assert_eq!(
        image::open(&png).unwrap().to_rgba8().into_raw(),
        vec![200; 24]
    );
    let kept = std::fs::read(&png).unwrap();
    let error = run(Job::SavePicture {
        path: png.clone(),
        picture: picture(4),
    })
    .unwrap_err()
    .to_string();
    assert!(
        error.contains("p.png") && error.contains("nothing was changed"),
        "{error}"
    );
    assert_eq!(
        std::fs::read(&png).unwrap(),
        kept,
        "what was there is still there"
    );

    for bad in [
        folder.path().to_owned(),
        folder.path().join("no/such/folder/x.csv"),
        path.join("under-a-file.csv"),
    ] {
        assert!(
            matches!(run(save(&bad, "x")), Err(JobError::Export(_))),
            "{}",
            bad.display()
        );
    }
    let names: Vec<_> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names.len(), 2, "nothing temporary is left: {names:?}");
}

#[test]
fn a_disk_that_fills_up_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kept.bin");
    std::fs::write(&path, "old").unwrap();
    let full = || std::io::Error::new(std::io::ErrorKind::StorageFull, "no space left on device");
    let error = mambascope_core::export::write_file(&path, |file| {
        file.write_all(&[0; 100_000])?;
        Err(full())
    });
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("no space left on device")
    );
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// A study whose answer says how often it ran.
#[derive(Clone, Debug)]
struct Counting {
    input: u32,
    runs: Arc<AtomicUsize>,
}

impl PartialEq for Counting {
    fn eq(&self, other: &Self) -> bool {
        self.input == other.input
    }
}

impl Study for Counting {
    type Answer = (u32, usize);

    fn compute(
        &self,
        _: &mut Workshop,
        _: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<(u32, usize), JobError> {
        let runs = self.runs.fetch_add(1, Ordering::SeqCst) + 1;
        match self.input {
            0 => Err(JobError::Study("nothing to count".to_owned())),
            input => Ok((2 * input, runs)),
        }
    }
}

#[test]
fn a_study_is_a_job_like_any_other() {
    let engine = Engine::start(Workshop::new(Vec::new()), || {}).unwrap();
    let runs = Arc::new(AtomicUsize::new(0));
    let job = |input| {
        let runs = Arc::clone(&runs);
        Job::Study(StudyJob::new(Counting { input, runs }))
    };
    let wait = |input| loop {
        let reply = engine.ask("study", job(input));
        if !reply.busy {
            return reply;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let answer = |reply: &Reply| match &reply.answer {
        Some(Answer::Study(answer)) => answer.of::<Counting>().copied(),
        _ => None,
    };
    assert_eq!(answer(&wait(21)), Some((42, 1)));
    // Equal inputs, though another value: not computed again.
    assert_eq!(answer(&wait(21)), Some((42, 1)));
    assert_eq!(answer(&wait(4)), Some((8, 2)));
    let refused = wait(0);
    assert_eq!(refused.error.unwrap().to_string(), "nothing to count");
    assert_ne!(job(1), job(2));
    assert_ne!(job(1), Job::LoadEmbedded("novel-mamba-3m"));
}
