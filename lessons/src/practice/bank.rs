//! The questions and the claims: data files that are checked when they are read.

use std::collections::BTreeSet;

use mambascope_core::checkpoint::{EMBEDDED, Embedded};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::drill;
use crate::course::{self, LESSONS};
use crate::demo::AnyDemo;

// The files: `FILES`, name and text of each.
include!(concat!(env!("OUT_DIR"), "/practice.rs"));

/// How hard a question is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Anyone who has read about it.
    Basic,
    /// Someone who has used it.
    Intermediate,
    /// Someone who has built it.
    Advanced,
}

impl Level {
    /// All of them, easiest first.
    pub const ALL: [Self; 3] = [Self::Basic, Self::Intermediate, Self::Advanced];

    /// Its name, as the files write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Basic => "basic",
            Self::Intermediate => "intermediate",
            Self::Advanced => "advanced",
        }
    }
}

/// Where something can be read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// Authors, title, place and year.
    pub text: String,
    /// Its address.
    pub url: String,
}

/// A question with its model answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Its name.
    pub id: String,
    /// The name of its file.
    #[serde(skip)]
    pub topic: String,
    /// How hard it is.
    pub level: Level,
    /// The question, as Markdown.
    pub question: String,
    /// The model answer, as Markdown with formulas.
    pub answer: String,
    /// What interviewers listen for.
    pub listens_for: Vec<String>,
    /// What is often answered wrongly; the file says one or several.
    #[serde(deserialize_with = "one_or_several")]
    pub common_wrong: Vec<String>,
    /// What the answer rests on.
    pub sources: Vec<Reference>,
    /// The lesson that teaches it.
    pub lesson: String,
    /// The demo that proves it.
    pub demo: String,
    /// Whether it is one of the source note's own: these come first.
    #[serde(default)]
    pub note: bool,
    /// Controls of the demo, as JSON, where the way it begins does not show the answer; the others are as it begins.
    pub preset: Option<String>,
    /// What the Scope page shows of it, where a model at work does.
    pub scope: Option<ScopeState>,
}

/// A state of the Scope page.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScopeState {
    /// A model compiled into the program; the first of them when absent.
    pub model: Option<String>,
    /// What it reads.
    pub prompt: String,
    /// The layer that is looked into.
    pub layer: usize,
}

impl ScopeState {
    /// The model.
    pub fn model(&self) -> Option<&'static Embedded> {
        match &self.model {
            Some(name) => Embedded::named(name),
            None => EMBEDDED.first(),
        }
    }
}

/// What a claim is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Right as it stands.
    True,
    /// Right only with a correction.
    Imprecise,
    /// Wrong.
    False,
}

impl Verdict {
    /// All of them, in the order of the buttons.
    pub const ALL: [Self; 3] = [Self::True, Self::Imprecise, Self::False];

    /// Its name, as the files write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::True => "true",
            Self::Imprecise => "imprecise",
            Self::False => "false",
        }
    }
}

/// A sentence to judge.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Its name.
    pub id: String,
    /// What it is about: a topic of the questions.
    pub topic: String,
    /// How hard it is.
    pub level: Level,
    /// The sentence.
    pub text: String,
    /// What it is.
    pub verdict: Verdict,
    /// How it would be right, as Markdown.
    pub correction: String,
    /// What the verdict rests on.
    pub sources: Vec<Reference>,
    /// The lesson that teaches it.
    pub lesson: String,
    /// The demo that shows it.
    pub demo: String,
    /// What decides it, in a sentence.
    pub decides: String,
    /// The experiment that decides it on the spot, if one does.
    pub experiment: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    question: Vec<Question>,
    #[serde(default)]
    claim: Vec<Claim>,
}

fn one_or_several<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Texts {
        One(String),
        Several(Vec<String>),
    }
    Ok(match Texts::deserialize(deserializer)? {
        Texts::One(text) => vec![text],
        Texts::Several(texts) => texts,
    })
}

/// What is wrong with the data files.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BankError {
    /// A file that cannot be read as what it should be.
    #[error("{file}: {reason}")]
    Form {
        /// The file.
        file: String,
        /// What the reader says, with the line.
        reason: String,
    },
    /// An entry that says something that cannot be.
    #[error("{file}, {entry}: `{field}` is {found:?}, wanted {wanted}")]
    Entry {
        /// The file.
        file: String,
        /// The entry's name.
        entry: String,
        /// Which of its fields.
        field: &'static str,
        /// What it should be.
        wanted: String,
        /// What it is.
        found: String,
    },
}

/// All questions and claims.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bank {
    /// The questions: those of the source note first, then by topic.
    pub questions: Vec<Question>,
    /// The claims.
    pub claims: Vec<Claim>,
}

impl Bank {
    /// The bank this program was built with.
    ///
    /// # Errors
    /// Names the first file and entry with something wrong in it.
    pub fn load() -> Result<Self, BankError> {
        Self::parse(FILES)
    }

    /// Reads files, name and text of each. The topic of a question is the name of its file without its ending.
    ///
    /// # Errors
    /// Names the first file and entry with something wrong in it.
    pub fn parse(files: &[(&str, &str)]) -> Result<Self, BankError> {
        let mut bank = Self::default();
        let mut taken: BTreeSet<String> =
            drill::DRILLS.iter().map(|drill| drill.id.into()).collect();
        for &(file, text) in files {
            let read: File = toml::from_str(text).map_err(|error| BankError::Form {
                file: file.to_owned(),
                reason: error.to_string(),
            })?;
            let topic = file.strip_suffix(".toml").unwrap_or(file);
            for mut question in read.question {
                question.topic = topic.to_owned();
                Entry::new(file, &question.id).check_question(&question, &mut taken)?;
                bank.questions.push(question);
            }
            for claim in read.claim {
                Entry::new(file, &claim.id).check_claim(&claim, &mut taken)?;
                bank.claims.push(claim);
            }
        }
        // Stable: within each part the order is that of the files.
        bank.questions.sort_by_key(|question| !question.note);
        Ok(bank)
    }

    /// The question of that name.
    pub fn question(&self, id: &str) -> Option<&Question> {
        self.questions.iter().find(|question| question.id == id)
    }

    /// Everything that is Markdown.
    pub fn texts(&self) -> impl Iterator<Item = &String> {
        let claims = self.claims.iter().flat_map(Claim::texts);
        self.questions
            .iter()
            .flat_map(Question::texts)
            .chain(claims)
    }

    /// The claim of that name.
    pub fn claim(&self, id: &str) -> Option<&Claim> {
        self.claims.iter().find(|claim| claim.id == id)
    }

    /// The topics of the questions, in their order, each once.
    pub fn topics(&self) -> Vec<&str> {
        let mut seen = BTreeSet::new();
        let topics = self
            .questions
            .iter()
            .map(|question| question.topic.as_str());
        topics.filter(|topic| seen.insert(*topic)).collect()
    }
}

impl Question {
    /// Everything of it that is Markdown.
    pub fn texts(&self) -> impl Iterator<Item = &String> {
        let texts = [&self.question, &self.answer].into_iter();
        texts.chain(&self.listens_for).chain(&self.common_wrong)
    }

    /// The line that brings a demo to where it proves the answer, as the demo itself would write it.
    pub fn preset_line(&self) -> String {
        let demo = demo_with(&self.demo, self.preset.as_deref());
        demo.map_or_else(|_| self.demo.clone(), |demo| demo.preset())
    }

    /// The demo that proves the answer, with its controls where they show it.
    ///
    /// # Errors
    /// When there is no such demo, or the preset is not one of its; never of a bank that was read.
    pub fn proof(&self) -> Result<Box<dyn AnyDemo>, String> {
        demo_with(&self.demo, self.preset.as_deref())
    }
}

impl Claim {
    /// Everything of it that is Markdown.
    pub fn texts(&self) -> impl Iterator<Item = &String> {
        [&self.text, &self.correction, &self.decides].into_iter()
    }
}

/// The demo of that name with these of its controls moved.
fn demo_with(id: &str, preset: Option<&str>) -> Result<Box<dyn AnyDemo>, String> {
    let entry = course::demo(id).ok_or_else(|| format!("there is no demo {id:?}"))?;
    let mut demo = (entry.make)();
    let Some(preset) = preset else {
        return Ok(demo);
    };
    let moved: Map<String, Value> =
        serde_json::from_str(preset).map_err(|error| error.to_string())?;
    let mut controls = demo.save();
    for (name, value) in &moved {
        let control = controls.get_mut(name);
        *control.ok_or_else(|| format!("there is no control {name:?}"))? = value.clone();
    }
    demo.load(controls).map_err(|error| error.to_string())?;
    // What is out of its range has been brought into it.
    let kept = demo.save();
    match moved
        .iter()
        .find(|(name, value)| kept.get(*name) != Some(*value))
    {
        Some((name, value)) => Err(format!("{name} cannot be {value}")),
        None => Ok(demo),
    }
}

/// An entry that is being checked.
struct Entry<'a> {
    file: &'a str,
    id: &'a str,
}

impl<'a> Entry<'a> {
    fn new(file: &'a str, id: &'a str) -> Self {
        Self { file, id }
    }

    fn wrong(&self, field: &'static str, wanted: impl Into<String>, found: &str) -> BankError {
        BankError::Entry {
            file: self.file.to_owned(),
            entry: self.id.to_owned(),
            field,
            wanted: wanted.into(),
            found: found.to_owned(),
        }
    }

    fn check_question(
        &self,
        question: &Question,
        taken: &mut BTreeSet<String>,
    ) -> Result<(), BankError> {
        self.check_common(taken, &question.lesson, &question.demo, &question.sources)?;
        self.filled("question", &question.question)?;
        self.filled("answer", &question.answer)?;
        self.filled("listens_for", &question.listens_for.concat())?;
        self.filled("common_wrong", &question.common_wrong.concat())?;
        if let Some(scope) = &question.scope {
            self.filled("scope", &scope.prompt)?;
            let model = scope.model.as_deref().unwrap_or_default();
            scope
                .model()
                .ok_or_else(|| self.wrong("scope", "a model of this program", model))?;
        }
        let preset = question.preset.as_deref();
        demo_with(&question.demo, preset)
            .map(drop)
            .map_err(|reason| {
                let wanted = format!("controls of the demo {} as JSON ({reason})", question.demo);
                self.wrong("preset", wanted, preset.unwrap_or_default())
            })
    }

    fn check_claim(&self, claim: &Claim, taken: &mut BTreeSet<String>) -> Result<(), BankError> {
        self.check_common(taken, &claim.lesson, &claim.demo, &claim.sources)?;
        self.filled("topic", &claim.topic)?;
        self.filled("text", &claim.text)?;
        self.filled("correction", &claim.correction)?;
        self.filled("decides", &claim.decides)?;
        let known = |name: &str| course::experiments().any(|experiment| experiment.name == name);
        match claim.experiment.as_deref() {
            Some(name) if !known(name) => Err(self.wrong(
                "experiment",
                "one that `mambascope prove --list` names",
                name,
            )),
            _ => Ok(()),
        }
    }

    fn check_common(
        &self,
        taken: &mut BTreeSet<String>,
        lesson: &str,
        demo: &str,
        sources: &[Reference],
    ) -> Result<(), BankError> {
        let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.id.is_empty() || !self.id.chars().all(is_name) {
            return Err(self.wrong("id", "lower-case letters, digits and dashes", self.id));
        }
        if !taken.insert(self.id.to_owned()) {
            return Err(self.wrong("id", "a name that nothing else has", self.id));
        }
        if !LESSONS.iter().any(|known| known.id == lesson) {
            let ids: Vec<&str> = LESSONS.iter().map(|lesson| lesson.id).collect();
            return Err(self.wrong("lesson", format!("one of {}", ids.join(", ")), lesson));
        }
        if course::demo(demo).is_none() {
            return Err(self.wrong("demo", "the name of a demo of some lesson", demo));
        }
        if sources.is_empty() {
            return Err(self.wrong("sources", "one at least", ""));
        }
        sources.iter().try_for_each(|source| {
            self.filled("sources", &source.text)?;
            self.filled("sources", &source.url)
        })
    }

    fn filled(&self, field: &'static str, text: &str) -> Result<(), BankError> {
        if text.trim().is_empty() {
            return Err(self.wrong(field, "a text", text));
        }
        Ok(())
    }
}
