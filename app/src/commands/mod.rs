//! The command line: one file a command, and what they share.

mod bench;
mod check;
mod format;
mod prove;
mod quiz;
mod recall;
mod run;
mod trace;

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use mambascope_core::backend::Backend;
use mambascope_core::checkpoint::{self, EMBEDDED, Embedded, LoadError};
use mambascope_core::job::Progress;
use mambascope_core::model::Model;
use thiserror::Error;

use crate::backends::{self, NAMES};
use crate::window;

/// Watch a state-space model think: without a command, the window opens.
#[derive(Parser)]
#[command(
    name = "mambascope",
    version,
    about,
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Folder of the model the window shows.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Continue a prompt, as fast as it goes.
    Run(run::Run),
    /// Record what happens inside to a safetensors file.
    Trace(trace::Trace),
    /// Load a model, check every tensor, print its card; with a backend, measure that against the naive one.
    Check(check::Check),
    /// Ask models for facts in their context, and print how many they know.
    Recall(recall::Recall),
    /// Run the experiments of the lessons: what each expects and what this machine measures.
    Prove(prove::Prove),
    /// Practise for an interview: what is due today, asked in the terminal.
    Quiz(quiz::Quiz),
    /// Measure tokens a second for each backend.
    Bench(bench::Bench),
}

/// Where a command computes.
#[derive(Args)]
struct Machine {
    /// Which backend computes.
    #[arg(long, default_value = NAMES[0], value_parser = NAMES)]
    backend: String,
    #[command(flatten)]
    threads: Threads,
}

#[derive(Args)]
struct Threads {
    /// Threads of the fast backend; 0 means one for each core.
    #[arg(long = "threads", value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=MOST_THREADS))]
    count: u16,
}

impl Threads {
    /// Threads the fast backend has.
    fn of_machine(&self) -> NonZeroUsize {
        let cores = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        NonZeroUsize::new(self.count.into()).unwrap_or_else(cores)
    }
}

/// More threads than any machine this runs on has cores: a typing error.
const MOST_THREADS: i64 = 256;

/// Why a command gave up; shown after "mambascope: ".
#[derive(Debug, Error)]
enum Failure {
    /// Names the path itself.
    #[error("{0}")]
    Load(Box<LoadError>),
    #[error("the embedded model cannot be loaded: {0}")]
    Embedded(Box<LoadError>),
    #[error(transparent)]
    Job(#[from] mambascope_core::job::JobError),
    #[error(transparent)]
    Backend(#[from] mambascope_core::backend::BackendError),
    #[error("{0}")]
    Said(String),
    #[error("could not write to the terminal: {0}")]
    Output(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Failure::Output(error)
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        None => return open_window(arguments.model),
        Some(Command::Run(run)) => run.execute(),
        Some(Command::Trace(trace)) => trace.execute(),
        Some(Command::Check(check)) => check.execute(),
        Some(Command::Recall(recall)) => recall.execute(),
        Some(Command::Prove(prove)) => prove.execute(),
        Some(Command::Quiz(quiz)) => quiz.execute(),
        Some(Command::Bench(bench)) => bench.execute(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of a pipe has seen enough: not an error.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("mambascope: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn open_window(model: Option<PathBuf>) -> ExitCode {
    let has_display = ["WAYLAND_DISPLAY", "WAYLAND_SOCKET", "DISPLAY"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    if cfg!(all(unix, not(target_os = "macos"))) && !has_display {
        eprintln!(
            "mambascope: there is no display to open a window on; the commands run, trace, check, recall, prove, quiz and bench work without one (mambascope --help)"
        );
        return ExitCode::from(2);
    }
    window::open(model)
}

/// The model in a folder, or the embedded one.
fn load(folder: Option<&Path>) -> Result<Arc<Model>, Failure> {
    let model = match folder {
        // A name is meant as a name unless a folder is called so.
        Some(name) if !name.exists() && named(name).is_some() => load_embedded(named(name))?,
        Some(folder) => checkpoint::load(folder, &checkpoint::unhurried)
            .map_err(|reason| not_loaded(folder, reason))?,
        None => load_embedded(None)?,
    };
    Ok(Arc::new(model))
}

/// A path that leads nowhere may have been meant as a name.
fn not_loaded(typed: &Path, reason: LoadError) -> Failure {
    match reason {
        LoadError::NotFound { path } if path == typed => {
            let names: Vec<&str> = EMBEDDED.iter().map(|embedded| embedded.name).collect();
            Failure::Said(format!(
                "there is no file or folder {}, and no model of that name in this program: wanted a folder, or one of {}",
                path.display(),
                names.join(", ")
            ))
        }
        reason => Failure::Load(Box::new(reason)),
    }
}

/// The embedded model of that name.
fn named(name: &Path) -> Option<&'static Embedded> {
    Embedded::named(name.to_str()?)
}

/// An embedded model; the default one unless another is meant.
fn load_embedded(embedded: Option<&Embedded>) -> Result<Model, Failure> {
    let embedded = embedded.unwrap_or(&EMBEDDED[0]);
    embedded
        .load()
        .map_err(|reason| Failure::Embedded(Box::new(reason)))
}

impl Machine {
    fn start(&self) -> Result<Box<dyn Backend>, Failure> {
        backend(&self.backend, &self.threads)
    }
}

/// A backend by its name on the command line.
fn backend(name: &str, threads: &Threads) -> Result<Box<dyn Backend>, Failure> {
    if let Some(reason) = backends::unavailable(name) {
        return Err(Failure::Said(format!(
            "the backend {name} cannot be used here. {reason}"
        )));
    }
    let found = backends::available(threads.count.into())?
        .into_iter()
        .find(|backend| backend.name() == name);
    found.ok_or_else(|| {
        Failure::Said(format!(
            "there is no backend {name:?}; there are {}",
            NAMES.join(", ")
        ))
    })
}

/// What was typed as a prompt; `-` stands for what comes in on standard input.
fn prompt_text(typed: &str) -> Result<Cow<'_, str>, Failure> {
    if typed != "-" {
        return Ok(typed.into());
    }
    let read = io::read_to_string(io::stdin());
    read.map(Cow::Owned).map_err(|error| {
        Failure::Said(format!(
            "the prompt could not be read from standard input: {error}"
        ))
    })
}

/// Warnings of a model go where they do not mix with the output.
fn warn(model: &Model) {
    for warning in &model.warnings {
        eprintln!("mambascope: note: {warning}");
    }
}

/// Writes and flushes, so that what is generated appears as it comes.
fn emit(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Counts on the terminal how far a job is, if there is one to count on.
fn count_on_terminal() -> impl FnMut(Progress) -> ControlFlow<()> {
    let shows = io::stderr().is_terminal();
    move |progress| {
        if let Progress::Count { what, done, total } = progress
            && shows
        {
            let end = if done == total { "\r\x1b[K" } else { "" };
            // Nothing is lost with a line of progress.
            let _ = write!(io::stderr(), "\r{what}: {done} of {total}{end}");
        }
        ControlFlow::Continue(())
    }
}
