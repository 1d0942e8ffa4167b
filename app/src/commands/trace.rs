//! `mambascope trace`: what happens inside, as a safetensors file.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use mambascope_core::job::{JobError, ModelRef, prompt_ids};
use mambascope_core::model::Model;
use mambascope_core::trace::{DEFAULT_BUDGET, Probe, TraceError, TracePlan};
use mambascope_core::trace_file::{TraceFile, TraceJob};

use super::{Failure, Machine, emit, load, prompt_text, warn};

#[derive(Args)]
pub(super) struct Trace {
    /// Folder of the model, or the name of an embedded one; novel-mamba-3m without.
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    #[command(flatten)]
    text: Text,
    /// File to write.
    #[arg(long, value_name = "FILE.safetensors")]
    out: PathBuf,
    /// Layers to keep, such as 0,3; all without.
    #[arg(long, value_delimiter = ',', value_name = "I,…")]
    layers: Option<Vec<usize>>,
    /// Stages to keep beside logits, such as h,conv_out; delta, B, C, router_logits and block_output without.
    #[arg(long, value_delimiter = ',', value_name = "NAME,…", value_parser = probe)]
    probes: Option<Vec<Probe>>,
    /// Tokens to write greedily afterwards, each read back as a text that is given; their ids are kept.
    #[arg(long, value_name = "N", default_value_t = 0)]
    tokens: usize,
    #[command(flatten)]
    machine: Machine,
    /// Most MiB the record may take.
    #[arg(long, value_name = "N", default_value_t = DEFAULT_BUDGET >> 20)]
    budget_mib: u64,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Text {
    /// Text to read; - reads standard input.
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Token ids to read, such as 1,2,3.
    #[arg(long, value_delimiter = ',', value_name = "ID,…")]
    ids: Option<Vec<u32>>,
}

fn probe(name: &str) -> Result<Probe, String> {
    let found = Probe::ALL.into_iter().find(|probe| probe.name() == name);
    found.ok_or_else(|| {
        let names: Vec<_> = Probe::ALL.iter().map(|probe| probe.name()).collect();
        format!("there are {}", names.join(", "))
    })
}

/// Names what to change on the command line when a record is too large.
fn with_options(error: JobError) -> Failure {
    match error {
        JobError::Trace(TraceError::OverBudget { .. }) => Failure::Said(format!(
            "{error} (--layers, --probes, --prompt, --budget-mib)"
        )),
        error => error.into(),
    }
}

impl Trace {
    pub(super) fn execute(&self) -> Result<(), Failure> {
        let model = load(self.model.as_deref())?;
        warn(&model);
        let mut backend = self.machine.start()?;
        let job = TraceJob {
            ids: self.ids(&model)?.into(),
            layers: self.layers(&model),
            probes: self.wanted(),
            write: self.tokens,
            budget: self.budget_mib.saturating_mul(1 << 20),
            backend: self.machine.backend.clone(),
            model: ModelRef(model),
        };
        if self.probes.is_some() {
            let plan = TracePlan {
                layers: job.layers.clone(),
                probes: job.probes.clone(),
                tokens: 0,
                budget: 0,
            };
            plan.check_each_probe(&job.model.config)
                .map_err(JobError::from)?;
        }
        let file = TraceFile::record(&job, &mut *backend, &mut |_| ControlFlow::Continue(()))
            .map_err(with_options)?;
        file.write(&self.out).map_err(JobError::from)?;
        for (name, shape) in file.contents() {
            emit(&format!("{name} {shape:?}\n"))?;
        }
        emit(&format!("written to {}\n", self.out.display()))?;
        Ok(())
    }

    fn ids(&self, model: &Model) -> Result<Vec<u32>, Failure> {
        match (&self.text.prompt, &self.text.ids) {
            (Some(prompt), _) => Ok(prompt_ids(model, &prompt_text(prompt)?)?),
            (None, ids) => Ok(ids.clone().unwrap_or_default()),
        }
    }

    /// The layers asked for, each once, in order; all unless some are named.
    fn layers(&self, model: &Model) -> Vec<usize> {
        match &self.layers {
            Some(layers) => layers
                .iter()
                .copied()
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
            None => (0..model.config.n_layers()).collect(),
        }
    }

    /// The stages asked for; logits always.
    fn wanted(&self) -> Vec<Probe> {
        let Some(probes) = &self.probes else {
            return TraceJob::PROBES.to_vec();
        };
        let mut probes: Vec<Probe> = Probe::ALL
            .into_iter()
            .filter(|probe| probes.contains(probe))
            .collect();
        if !probes.contains(&Probe::Logits) {
            probes.push(Probe::Logits);
        }
        probes
    }
}
