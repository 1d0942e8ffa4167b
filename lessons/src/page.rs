//! The page of a lesson: a Markdown document cut into cells. Its grammar is plain Markdown; a fenced block whose first word is
//! `demo`, `check`, `experiment` or `source` is a cell of its own, and every second-level heading begins a new one. A demo that
//! shows what a check asks for names the check, ```` ```demo name after check ````, and is covered until an answer is committed.

use std::collections::BTreeMap;

use pulldown_cmark::{Event, Options, Parser, Tag};
use serde::Deserialize;
use thiserror::Error;

/// What is wrong with a page.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{page}, line {line}: {reason}")]
pub struct PageError {
    /// The lesson's name.
    pub page: String,
    /// Line of its file, from 1.
    pub line: usize,
    /// What is wrong there.
    pub reason: String,
}

/// A work the page rests on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its name in the page's links: `source:id`.
    pub id: String,
    /// Authors, title, place and year.
    pub text: String,
    /// Where it can be read.
    pub url: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Front {
    title: String,
    objective: String,
    minutes: u32,
    #[serde(default)]
    symbols: BTreeMap<String, String>,
    #[serde(default)]
    sources: Vec<Source>,
}

/// A page.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// Its title.
    pub title: String,
    /// What the reader can do afterwards.
    pub objective: String,
    /// How long it takes.
    pub minutes: u32,
    /// Symbols of its formulas, with meaning and shape, beside the glossary's.
    pub symbols: BTreeMap<String, String>,
    /// What it rests on.
    pub sources: Vec<Source>,
    /// The cells, in order.
    pub cells: Vec<Cell>,
}

/// A cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// Line of the file it begins on, from 1.
    pub line: usize,
    /// What is in it.
    pub kind: CellKind,
}

/// What is in a cell.
#[derive(Clone, Debug, PartialEq)]
pub enum CellKind {
    /// Text with formulas, as Markdown.
    Prose(String),
    /// A live demo, and the controls it begins with, if the page says them.
    Demo {
        /// The demo's name.
        id: String,
        /// Its controls.
        preset: Option<serde_json::Value>,
        /// Checks it gives the answer of: it stays covered until they are answered.
        after: Vec<String>,
    },
    /// A question to commit to before the answer is shown.
    Check(Check),
    /// An experiment's name.
    Experiment(String),
    /// A piece of the engine's own source.
    Excerpt(Excerpt),
}

/// How a question is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckKind {
    /// By a number.
    Number,
    /// By one of the options.
    Choice,
    /// By bringing the options into order.
    Order,
}

/// A question.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Its name.
    #[serde(skip)]
    pub id: String,
    /// How it is answered.
    pub kind: CheckKind,
    /// The question, as Markdown.
    pub ask: String,
    /// Why the answer is what it is, as Markdown; shown at the reveal.
    pub why: String,
    /// A number's answer: a finding of an experiment, `experiment/finding`.
    pub finding: Option<String>,
    /// How far from the answer is still right, as a share of it.
    pub tolerance: Option<f64>,
    /// The same in the answer's own unit.
    pub tolerance_abs: Option<f64>,
    /// The unit of a number.
    #[serde(default)]
    pub unit: String,
    /// What there is to choose from, or to order: then in the right order.
    #[serde(default)]
    pub options: Vec<String>,
    /// Which option is right, from 0.
    pub answer: Option<usize>,
    /// The demo on whose plot the guess stays drawn.
    pub demo: Option<String>,
}

impl Check {
    /// Whether a number is right.
    pub fn accepts(&self, guess: f64, truth: f64) -> bool {
        let share = self.tolerance.unwrap_or(0.0) * truth.abs();
        (guess - truth).abs() <= share.max(self.tolerance_abs.unwrap_or(0.0))
    }

    fn complaint(&self) -> Option<&'static str> {
        match self.kind {
            CheckKind::Number if self.finding.is_none() => {
                Some("a number is computed: name the `finding`, as experiment/finding")
            }
            CheckKind::Number if self.tolerance.is_none() && self.tolerance_abs.is_none() => {
                Some("a number needs a `tolerance`, a share of it, or `tolerance_abs`")
            }
            CheckKind::Choice if self.answer.is_none_or(|index| index >= self.options.len()) => {
                Some("a choice needs `options` and the index of its `answer`")
            }
            CheckKind::Order if self.options.len() < 3 => {
                Some("an order needs three `options` at least, in the right order")
            }
            _ => None,
        }
    }
}

/// A piece of the engine's own source.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Excerpt {
    /// Path from the root of the repository.
    pub file: String,
    /// Text that only its first line has.
    pub from: String,
    /// How many lines.
    pub lines: usize,
    /// Text in the lines that are the formula.
    #[serde(default)]
    pub mark: Vec<String>,
}

/// A line of an excerpt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceLine {
    /// Its number in the file, from 1.
    pub number: usize,
    /// Its text, less the indentation all lines share.
    pub text: String,
    /// Whether it is the formula.
    pub is_marked: bool,
}

// The files the pages quote: `QUOTED`, path and text of each.
include!(concat!(env!("OUT_DIR"), "/quoted.rs"));

impl Excerpt {
    /// Its lines, as they stood in the file when the program was built.
    ///
    /// # Errors
    /// When the file, its first line or a marked text is not there, or the first line is not the only one of its kind.
    pub fn read(&self) -> Result<Vec<SourceLine>, String> {
        let text = QUOTED.iter().find(|(path, _)| *path == self.file);
        let (_, text) = text.ok_or_else(|| format!("there is no file {}", self.file))?;
        let lines: Vec<&str> = text.lines().collect();
        let mut starts = (0..lines.len()).filter(|&i| lines[i].contains(&self.from));
        let first = starts
            .next()
            .ok_or_else(|| format!("{} has no line with {:?}", self.file, self.from))?;
        if let Some(second) = starts.next() {
            return Err(format!(
                "{:?} stands in lines {} and {} of {}",
                self.from,
                first + 1,
                second + 1,
                self.file
            ));
        }
        let taken = &lines[first..(first + self.lines).min(lines.len())];
        for mark in &self.mark {
            if !taken.iter().any(|line| line.contains(mark)) {
                return Err(format!("none of the lines quoted has {mark:?}"));
            }
        }
        let blank = |line: &&&str| !line.trim().is_empty();
        let indent = |line: &&str| line.len() - line.trim_start().len();
        let shared = taken.iter().filter(blank).map(indent).min().unwrap_or(0);
        let quoted = taken.iter().enumerate().map(|(i, line)| SourceLine {
            number: first + 1 + i,
            text: line.get(shared..).unwrap_or("").to_owned(),
            is_marked: self.mark.iter().any(|mark| line.contains(mark)),
        });
        Ok(quoted.collect())
    }
}

impl Page {
    /// Reads a page.
    ///
    /// # Errors
    /// With the line, when something is missing or cannot be read.
    pub fn parse(id: &str, text: &str) -> Result<Self, PageError> {
        let at = |line: usize, reason: String| PageError {
            page: id.to_owned(),
            line,
            reason,
        };
        let lines: Vec<&str> = text.lines().collect();
        if lines.first() != Some(&"+++") {
            return Err(at(
                1,
                "a page begins with its settings, between two lines of +++".into(),
            ));
        }
        let end = lines.iter().skip(1).position(|line| *line == "+++");
        let end = end.ok_or_else(|| at(1, "the settings have no end: a line of +++".into()))? + 1;
        let front: Front =
            toml::from_str(&lines[1..end].join("\n")).map_err(|error| at(2, error.to_string()))?;
        let mut cells = Vec::new();
        let mut prose = Prose::default();
        let mut i = end + 1;
        while i < lines.len() {
            let fence = lines[i].strip_prefix("```").map(str::trim);
            let Some(info) = fence else {
                if lines[i].starts_with("## ") {
                    prose.end(&mut cells);
                }
                prose.push(i, lines[i]);
                i += 1;
                continue;
            };
            let close = lines[i + 1..].iter().position(|line| line.trim() == "```");
            let close = close.ok_or_else(|| at(i + 1, "a fence without an end".into()))? + i + 1;
            let body = lines[i + 1..close].join("\n");
            match cell(info, &body).map_err(|reason| at(i + 1, reason))? {
                Some(kind) => {
                    prose.end(&mut cells);
                    cells.push(Cell { line: i + 1, kind });
                }
                // An ordinary block of code.
                None => (i..=close).for_each(|line| prose.push(line, lines[line])),
            }
            i = close + 1;
        }
        prose.end(&mut cells);
        Ok(Self {
            title: front.title,
            objective: front.objective,
            minutes: front.minutes,
            symbols: front.symbols,
            sources: front.sources,
            cells,
        })
    }

    /// The questions on it.
    pub fn checks(&self) -> impl Iterator<Item = &Check> {
        self.cells.iter().filter_map(|cell| match &cell.kind {
            CellKind::Check(check) => Some(check),
            _ => None,
        })
    }

    /// Everything on it that is Markdown, with its line: text, questions, options, reasons.
    pub fn texts(&self) -> impl Iterator<Item = (usize, &str)> {
        self.cells.iter().flat_map(|cell| {
            let texts: Vec<&str> = match &cell.kind {
                CellKind::Prose(text) => vec![text],
                CellKind::Check(check) => [&check.ask, &check.why]
                    .into_iter()
                    .chain(&check.options)
                    .map(String::as_str)
                    .collect(),
                _ => Vec::new(),
            };
            texts.into_iter().map(|text| (cell.line, text))
        })
    }
}

/// Lines of text on their way to a cell.
#[derive(Default)]
struct Prose {
    first: usize,
    lines: Vec<String>,
}

impl Prose {
    fn push(&mut self, line: usize, text: &str) {
        if self.lines.is_empty() {
            self.first = line + 1;
        }
        self.lines.push(text.to_owned());
    }

    fn end(&mut self, cells: &mut Vec<Cell>) {
        let text = std::mem::take(&mut self.lines).join("\n");
        if !text.trim().is_empty() {
            cells.push(Cell {
                line: self.first,
                kind: CellKind::Prose(text),
            });
        }
    }
}

/// The cell a fenced block is, if it is one.
fn cell(info: &str, body: &str) -> Result<Option<CellKind>, String> {
    let (word, name) = info.split_once(' ').unwrap_or((info, ""));
    let name = name.trim();
    let named = || match name {
        "" => Err(format!("a {word} needs a name: ```{word} name")),
        name => Ok(name.to_owned()),
    };
    Ok(Some(match word {
        "demo" => {
            let name = named()?;
            let mut words = name.split_whitespace();
            let id = words.next().unwrap_or_default();
            demo(id, &words.collect::<Vec<_>>(), body)?
        }
        "experiment" => CellKind::Experiment(named()?),
        "source" => CellKind::Excerpt(toml::from_str(body).map_err(|error| error.to_string())?),
        "check" => {
            let mut check: Check = toml::from_str(body).map_err(|error| error.to_string())?;
            check.id = named()?;
            if let Some(complaint) = check.complaint() {
                return Err(complaint.to_owned());
            }
            CellKind::Check(check)
        }
        _ => return Ok(None),
    }))
}

/// A demo, of its name, the words behind it and the body of its block.
fn demo(id: &str, rest: &[&str], body: &str) -> Result<CellKind, String> {
    let after = match rest {
        [] => &[],
        ["after", checks @ ..] if !checks.is_empty() => checks,
        _ => {
            return Err(format!(
                "behind a demo's name: after, and the checks it waits for, not {:?}",
                rest.join(" ")
            ));
        }
    };
    Ok(CellKind::Demo {
        id: id.to_owned(),
        preset: match body.trim() {
            "" => None,
            body => Some(serde_json::from_str(body).map_err(|error| error.to_string())?),
        },
        after: after.iter().map(|&check| check.to_owned()).collect(),
    })
}

/// A link of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// What is written.
    pub text: String,
    /// Where it leads.
    pub to: String,
}

fn options() -> Options {
    Options::ENABLE_MATH | Options::ENABLE_TABLES
}

/// The formulas of a text, and whether each is part of a line.
pub fn formulas(text: &str) -> Vec<(String, bool)> {
    let formula = |event| match event {
        Event::InlineMath(tex) => Some((tex.to_string(), true)),
        Event::DisplayMath(tex) => Some((tex.to_string(), false)),
        _ => None,
    };
    Parser::new_ext(text, options())
        .filter_map(formula)
        .collect()
}

/// The links of a text.
pub fn links(text: &str) -> Vec<Link> {
    let mut found = Vec::new();
    let mut open: Option<Link> = None;
    for event in Parser::new_ext(text, options()) {
        match event {
            Event::Start(Tag::Link { dest_url, .. }) => {
                open = Some(Link {
                    text: String::new(),
                    to: dest_url.to_string(),
                });
            }
            Event::Text(text) | Event::Code(text) => {
                if let Some(link) = &mut open {
                    link.text.push_str(&text);
                }
            }
            Event::End(pulldown_cmark::TagEnd::Link) => found.extend(open.take()),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "+++\ntitle = \"T\"\nobjective = \"O\"\nminutes = 5\n+++\n";

    #[test]
    fn a_page_is_cut_at_headings_and_cells() {
        let text = format!(
            "{HEAD}\nOne $a$.\n## Two\nText.\n```demo x\n{{\"a\": 1}}\n```\n```rust\nlet a = 1;\n```\n"
        );
        let page = Page::parse("p", &text).unwrap();
        let kinds: Vec<_> = page.cells.iter().map(|cell| &cell.kind).collect();
        assert!(matches!(kinds[0], CellKind::Prose(text) if text.contains("One")));
        assert!(matches!(kinds[1], CellKind::Prose(text) if text.starts_with("## Two")));
        assert!(matches!(kinds[2], CellKind::Demo { id, preset: Some(_), .. } if id == "x"));
        assert!(matches!(kinds[3], CellKind::Prose(text) if text.contains("let a")));
        assert_eq!(page.cells[2].line, 10);
        assert_eq!(
            formulas("a $b$ and\n\n$$c$$"),
            [("b".into(), true), ("c".into(), false)]
        );
    }

    #[test]
    fn a_demo_names_the_checks_it_waits_for() {
        let demo = |fence: &str| {
            let page = Page::parse("p", &format!("{HEAD}```{fence}\n```")).unwrap();
            match &page.cells[0].kind {
                CellKind::Demo { id, after, .. } => (id.clone(), after.join(" and ")),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(demo("demo x"), ("x".into(), String::new()));
        assert_eq!(demo("demo x after y"), ("x".into(), "y".into()));
        assert_eq!(demo("demo x after y z"), ("x".into(), "y and z".into()));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        let wrong = |body: &str| Page::parse("p", &format!("{HEAD}{body}")).unwrap_err();
        assert_eq!(wrong("```demo\n```").line, 6);
        assert!(
            wrong("\n```check a\nkind = \"number\"\nask = \"\"\nwhy = \"\"\n```")
                .reason
                .contains("finding")
        );
        assert!(wrong("```demo x").reason.contains("end"));
        for fence in ["demo x before y", "demo x after"] {
            let error = wrong(&format!("\n```{fence}\n```"));
            assert!(error.line == 7 && error.reason.contains("waits"), "{error}");
        }
        assert!(Page::parse("p", "no settings").is_err());
    }
}
