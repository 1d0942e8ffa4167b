//! `mambascope prove`: runs the experiments of the lessons.

use std::io::{Write, stdout};
use std::ops::ControlFlow;

use clap::Args;
use mambascope_core::job::Workshop;
use mambascope_lessons::course;
use mambascope_lessons::experiment::{Bench, Experiment, Finding};
use mambascope_lessons::notebook::trial::{expected_text, measured_text};

use super::{Failure, Threads};
use crate::backends;

/// Options of `prove`.
#[derive(Args)]
pub(super) struct Prove {
    /// Which experiments; all of them when none is named.
    names: Vec<String>,
    /// Only say which experiments there are.
    #[arg(long)]
    list: bool,
    #[command(flatten)]
    threads: Threads,
}

impl Prove {
    pub(super) fn execute(&self) -> Result<(), Failure> {
        let chosen = self.chosen()?;
        let mut out = stdout().lock();
        if self.list {
            for experiment in chosen {
                writeln!(out, "{:<28} {}", experiment.name, experiment.title)?;
            }
            return Ok(());
        }
        let mut workshop = Workshop::new(backends::available(self.threads.of_machine().get())?);
        let (mut findings, mut failed) = (0, 0);
        for experiment in chosen {
            writeln!(out, "{}: {}", experiment.name, experiment.title)?;
            let mut bench = Bench {
                workshop: &mut workshop,
                progress: &mut |_| ControlFlow::Continue(()),
            };
            match (experiment.run)(&mut bench) {
                Ok(found) => {
                    findings += found.len();
                    failed += found.iter().filter(|finding| !finding.holds()).count();
                    table(&mut out, &found)?;
                }
                Err(error) => {
                    (findings, failed) = (findings + 1, failed + 1);
                    writeln!(out, "  FAILED: {error}")?;
                }
            }
        }
        if failed > 0 {
            return Err(Failure::Said(format!(
                "{failed} of {findings} findings do not hold"
            )));
        }
        writeln!(out, "All {findings} findings hold.")?;
        Ok(())
    }

    fn chosen(&self) -> Result<Vec<&'static Experiment>, Failure> {
        if self.names.is_empty() {
            return Ok(course::experiments().collect());
        }
        let find = |name: &String| {
            let found = course::experiments().find(|experiment| experiment.name == name);
            found.ok_or_else(|| {
                Failure::Said(format!(
                    "there is no experiment {name:?}; mambascope prove --list names them all"
                ))
            })
        };
        self.names.iter().map(find).collect()
    }
}

/// One line a finding: what was measured, expected, found.
fn table(out: &mut impl Write, findings: &[Finding]) -> Result<(), Failure> {
    for finding in findings {
        let verdict = if finding.holds() { "ok" } else { "FAILED" };
        writeln!(
            out,
            "  {verdict:<6} {}\n         expected {}, measured {}",
            finding.what,
            expected_text(finding),
            measured_text(finding)
        )?;
    }
    Ok(())
}
