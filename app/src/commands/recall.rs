//! `mambascope recall`: how many facts in their context models still know, as a table of models by numbers of facts.

use std::path::PathBuf;

use clap::Args;
use mambascope_core::checkpoint::EMBEDDED;
use mambascope_core::job::ModelRef;
use mambascope_core::recall::{MOST_FACTS, RecallJob, RecallScore, RecallTable, recall};
use serde_json::json;

use super::{Failure, Machine, count_on_terminal, emit, load, load_embedded, warn};

#[derive(Args)]
pub(super) struct Recall {
    /// Folder of a model, or the name of an embedded one; may be given several times. Without, the four embedded ones.
    #[arg(long, value_name = "DIR")]
    model: Vec<PathBuf>,
    /// Numbers of facts to ask for.
    #[arg(long, value_name = "K,…", value_delimiter = ',', default_value = "4,16,64,96", value_parser = facts)]
    facts: Vec<usize>,
    /// Rows for each model and number of facts.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rows: u32,
    /// The same seed asks for the same facts.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    machine: Machine,
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

fn facts(text: &str) -> Result<usize, String> {
    let wanted = || format!("wanted a whole number from 1 to {MOST_FACTS}");
    let facts: usize = text.parse().map_err(|_| wanted())?;
    if (1..=MOST_FACTS).contains(&facts) {
        Ok(facts)
    } else {
        Err(wanted())
    }
}

impl Recall {
    pub(super) fn execute(&self) -> Result<(), Failure> {
        let models = self.models()?;
        let mut backend = self.machine.start()?;
        let job = RecallJob {
            models,
            backend: self.machine.backend.clone(),
            facts: self.facts.clone(),
            rows: self.rows as usize,
            seed: self.seed,
        };
        let table = recall(&job, &mut *backend, &mut count_on_terminal())?;
        emit(&if self.json {
            self.object(&table)
        } else {
            self.table(&job, &table)
        })?;
        Ok(())
    }

    fn models(&self) -> Result<Vec<ModelRef>, Failure> {
        if self.model.is_empty() {
            let all = EMBEDDED
                .iter()
                .map(|embedded| load_embedded(Some(embedded)));
            return all
                .map(|model| Ok(ModelRef(std::sync::Arc::new(model?))))
                .collect();
        }
        let load = |folder: &PathBuf| {
            let model = load(Some(folder))?;
            warn(&model);
            Ok(ModelRef(model))
        };
        self.model.iter().map(load).collect()
    }

    fn table(&self, job: &RecallJob, table: &RecallTable) -> String {
        let width = job.models.iter().map(|model| model.name.chars().count());
        let width = width.max().unwrap_or(0).max("model".len());
        let mut text = format!("{:<width$}", "model");
        for facts in &self.facts {
            text += &format!("  {:>15}", format!("K={facts}"));
        }
        for row in &table.rows {
            text += &format!("\n{:<width$}", row.model.name);
            for score in &row.scores {
                let cell = format!("{:.3} ± {:.3}", score.accuracy(), score.standard_error);
                text += &format!("  {cell:>15}");
            }
        }
        text + &format!(
            "\n\nshare of values that are the most likely token after their key, ± its standard error; {} rows each, seed {}\n",
            self.rows, self.seed
        )
    }

    fn object(&self, table: &RecallTable) -> String {
        let score = |score: &RecallScore| {
            json!({
                "facts": score.facts,
                "asked": score.asked,
                "right": score.right,
                "accuracy": score.accuracy(),
                "standard_error": score.standard_error,
            })
        };
        let models = table.rows.iter().map(|row| {
            let scores: Vec<_> = row.scores.iter().map(score).collect();
            json!({"model": row.model.name, "scores": scores})
        });
        let object = json!({
            "rows": self.rows,
            "seed": self.seed,
            "models": models.collect::<Vec<_>>(),
        });
        format!("{object}\n")
    }
}
