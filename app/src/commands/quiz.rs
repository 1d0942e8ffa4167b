//! `mambascope quiz`: interview practice in a terminal, from the same bank and with the same schedule as the window's.

use std::io::{BufRead, Write, stdin, stdout};
use std::path::Path;
use std::time::Instant;

use clap::Args;
use mambascope_lessons::practice::bank::{Bank, Question};
use mambascope_lessons::practice::drill::{self, Drill, Response, Task};
use mambascope_lessons::practice::log::{Review, ReviewLog};
use mambascope_lessons::practice::proofs::without_links;
use mambascope_lessons::practice::schedule::{
    DAY, Deck, Evidence, Grade, NEW_PER_DAY, Rating, Scheduler,
};
use mambascope_lessons::practice::{Item, Kind, items, mock};

use super::Failure;
use crate::clock::{ZONE, now};
use crate::window::APP_ID;

/// Options of `quiz`.
#[derive(Args)]
pub(super) struct Quiz {
    /// Only what is about this; `--list` names the topics.
    #[arg(long, value_name = "T")]
    topic: Option<String>,
    /// How many to ask.
    #[arg(long = "n", value_name = "N", default_value_t = 5)]
    count: usize,
    /// Only print id, level, topic and preset of every question.
    #[arg(long)]
    list: bool,
}

impl Quiz {
    pub(super) fn execute(&self) -> Result<(), Failure> {
        let bank = Bank::load().map_err(|error| Failure::Said(error.to_string()))?;
        if self.list {
            return self.print_list(&bank);
        }
        let items = self.items(&bank)?;
        let mut quiz = Session::open(&bank, eframe::storage_dir(APP_ID).as_deref())?;
        quiz.run(&items, self.count)
    }

    fn print_list(&self, bank: &Bank) -> Result<(), Failure> {
        let mut out = stdout().lock();
        let wanted = |question: &&Question| self.is_wanted(&question.topic);
        if !bank.questions.iter().any(|question| wanted(&question)) {
            return Err(self.nothing_about(&bank.topics()));
        }
        for question in bank.questions.iter().filter(wanted) {
            writeln!(
                out,
                "{:<32} {:<12} {:<20} {}",
                question.id,
                question.level.name(),
                question.topic,
                question.preset_line()
            )?;
        }
        Ok(())
    }

    fn is_wanted(&self, topic: &str) -> bool {
        self.topic.as_ref().is_none_or(|wanted| wanted == topic)
    }

    /// What can be asked in a terminal: no curves to drag, and claims are for the window, where experiments decide them.
    fn items<'a>(&self, bank: &'a Bank) -> Result<Vec<Item<'a>>, Failure> {
        let can_be_asked = |item: &Item<'_>| match item.kind {
            Kind::Question => true,
            Kind::Claim => false,
            Kind::Drill => drill::drill(item.id).is_some_and(|drill| !drill.is_curve()),
        };
        let askable: Vec<Item<'a>> = items(bank).into_iter().filter(can_be_asked).collect();
        let wanted = askable.iter().copied();
        let wanted: Vec<Item<'a>> = wanted.filter(|item| self.is_wanted(item.topic)).collect();
        if wanted.is_empty() {
            let mut topics: Vec<&str> = askable.iter().map(|item| item.topic).collect();
            topics.sort_unstable();
            topics.dedup();
            return Err(self.nothing_about(&topics));
        }
        Ok(wanted)
    }

    fn nothing_about(&self, topics: &[&str]) -> Failure {
        Failure::Said(format!(
            "there is nothing about {:?}; there are {}",
            self.topic.as_deref().unwrap_or_default(),
            topics.join(", ")
        ))
    }
}

/// A quiz that is going on.
struct Session<'a> {
    bank: &'a Bank,
    scheduler: Scheduler,
    deck: Deck,
    /// None where there is no data folder.
    log: Option<ReviewLog>,
}

/// What was answered, and what that comes to.
struct Answered {
    suggested: Rating,
    rating: Rating,
    correct: bool,
    seconds: f64,
    seed: Option<u64>,
    answer: Option<String>,
}

impl<'a> Session<'a> {
    fn open(bank: &'a Bank, folder: Option<&Path>) -> Result<Self, Failure> {
        let scheduler = Scheduler::default();
        let said = |error: &dyn std::fmt::Display| Failure::Said(error.to_string());
        let Some(folder) = folder else {
            eprintln!("mambascope: note: there is no data folder, so answers are not kept");
            return Ok(Self {
                bank,
                scheduler,
                deck: Deck::default(),
                log: None,
            });
        };
        let opened = ReviewLog::open(folder).map_err(|error| said(&error))?;
        for notice in &opened.notices {
            eprintln!("mambascope: note: {notice}");
        }
        Ok(Self {
            bank,
            deck: Deck::replay(&scheduler, &opened.reviews),
            scheduler,
            log: Some(opened.log),
        })
    }

    fn run(&mut self, items: &[Item<'_>], count: usize) -> Result<(), Failure> {
        for asked in 0..count {
            let now = now();
            let queue = self.deck.queue(items, now, ZONE, NEW_PER_DAY);
            let Some(item) = queue.next() else {
                if asked == 0 {
                    say("Nothing is due, and no more is new today.\n")?;
                }
                return Ok(());
            };
            say(&format!(
                "\n[{} of {count}] {} · {} · {}\n\n",
                asked + 1,
                item.level.name(),
                item.topic,
                item.id
            ))?;
            let answered = match item.kind {
                Kind::Drill => self.ask_drill(item.id)?,
                _ => self.ask_question(item.id)?,
            };
            let Some(answered) = answered else {
                return Ok(());
            };
            self.keep(item.id, answered)?;
        }
        Ok(())
    }

    fn keep(&mut self, item: &str, answered: Answered) -> Result<(), Failure> {
        let review = Review {
            item: item.to_owned(),
            at: now(),
            revision: 0,
            rating: answered.rating,
            suggested: answered.suggested,
            correct: answered.correct,
            confidence: None,
            seconds: answered.seconds,
            seed: answered.seed,
            answer: answered.answer,
        };
        if let Some(log) = &self.log {
            let kept = log.append(&review);
            kept.map_err(|error| Failure::Said(error.to_string()))?;
        }
        let card = self
            .deck
            .answer(&self.scheduler, item, review.rating, review.at);
        say(&format!("Comes back in {}.\n", span(card.interval())))
    }

    fn ask_question(&self, id: &str) -> Result<Option<Answered>, Failure> {
        let Some(question) = self.bank.question(id) else {
            return Ok(None);
        };
        let start = Instant::now();
        say(&format!(
            "{}\n\nAnswer aloud or in writing; Enter reveals. ",
            question.question.trim()
        ))?;
        let Some(text) = line()? else {
            return Ok(None);
        };
        let seconds = start.elapsed().as_secs_f64();
        say(&format!(
            "\n{}\n\nInterviewers listen for:\n",
            without_links(question.answer.trim())
        ))?;
        for point in &question.listens_for {
            say(&format!("- {}\n", without_links(point)))?;
        }
        say("Often answered wrongly:\n")?;
        for wrong in &question.common_wrong {
            say(&format!("- {}\n", without_links(wrong.trim())))?;
        }
        let rating = rate(None)?;
        Ok(rating.map(|rating| Answered {
            suggested: rating,
            rating,
            correct: rating != Rating::Again,
            seconds,
            seed: None,
            answer: Some(text).filter(|text| !text.is_empty()),
        }))
    }

    fn ask_drill(&self, id: &str) -> Result<Option<Answered>, Failure> {
        let said = |error: drill::DrillError| Failure::Said(error.to_string());
        let Some(entry) = drill::drill(id) else {
            return Ok(None);
        };
        // Other numbers at every review.
        let drawn = entry.draw(now().unsigned_abs()).map_err(said)?;
        let start = Instant::now();
        say(&format!("{}\n(seed {})\n\n", drawn.text, drawn.seed))?;
        let (text, outcome) = loop {
            let Some((text, response)) = read_response(&drawn)? else {
                return Ok(None);
            };
            match drawn.check(&response) {
                Ok(outcome) => break (text, outcome),
                Err(error) => say(&format!("{error}\n"))?,
            }
        };
        let seconds = start.elapsed().as_secs_f64();
        say(&format!("\n{}\n{}\n", outcome.feedback, drawn.working))?;
        let evidence = Evidence {
            grade: if outcome.correct {
                Grade::Right
            } else {
                Grade::Wrong
            },
            seconds,
            expected_seconds: f64::from(mock::seconds(drawn.level)),
            confidence: None,
        };
        let suggested = evidence.rating();
        let rating = rate(Some(suggested))?;
        Ok(rating.map(|rating| Answered {
            suggested,
            rating,
            correct: outcome.correct,
            seconds,
            seed: Some(drawn.seed),
            answer: Some(text),
        }))
    }
}

/// What was entered for a drill, as it was typed and as the drill reads it; none at the end of the input.
fn read_response(drill: &Drill) -> Result<Option<(String, Response)>, Failure> {
    match &drill.task {
        Task::Code(task) => {
            let mut formulas = Vec::new();
            for field in &task.fields {
                let start = if field.start.is_empty() {
                    String::new()
                } else {
                    format!(" (now {})", field.start)
                };
                say(&format!("{}{start} = ", field.label))?;
                let Some(text) = line()? else {
                    return Ok(None);
                };
                formulas.push(text);
            }
            Ok(Some((formulas.join("; "), Response::Code(formulas))))
        }
        Task::Number(task) => loop {
            let unit = if task.unit.is_empty() {
                "your number"
            } else {
                task.unit
            };
            say(&format!("{unit}: "))?;
            let Some(text) = line()? else {
                return Ok(None);
            };
            match text.replace('−', "-").replace(',', "").parse() {
                Ok(number) => return Ok(Some((text, Response::Number(number)))),
                Err(_) => say("A number, please, such as 12.5. ")?,
            }
        },
        Task::Curve(_) => Ok(None),
    }
}

/// Asks for a rating; Enter alone takes the suggested one. None at the end of the input, or for q.
fn rate(suggested: Option<Rating>) -> Result<Option<Rating>, Failure> {
    let enter = suggested.map_or(String::new(), |rating| {
        format!(", Enter for {}", rating.name())
    });
    loop {
        say(&format!(
            "\n1 again, 2 hard, 3 good, 4 easy{enter}, q stops: "
        ))?;
        let Some(text) = line()? else {
            return Ok(None);
        };
        let key = text.parse().ok().and_then(Rating::of_key);
        match (text.as_str(), key, suggested) {
            ("q", ..) => return Ok(None),
            ("", _, Some(suggested)) => return Ok(Some(suggested)),
            (_, Some(rating), _) => return Ok(Some(rating)),
            _ => {}
        }
    }
}

fn say(text: &str) -> Result<(), Failure> {
    Ok(super::emit(text)?)
}

/// A line that was typed, without what is blank around it; none at the end of the input.
fn line() -> Result<Option<String>, Failure> {
    let mut text = String::new();
    let read = stdin().lock().read_line(&mut text);
    let read =
        read.map_err(|error| Failure::Said(format!("standard input could not be read: {error}")))?;
    Ok((read > 0).then(|| text.trim().to_owned()))
}

/// A time until something comes back, in words.
fn span(seconds: i64) -> String {
    match seconds {
        ..3_600 => format!("{} minutes", seconds / 60),
        3_600..DAY => format!("{} hours", seconds / 3_600),
        _ if seconds < 2 * DAY => "a day".to_owned(),
        _ => format!("{} days", seconds / DAY),
    }
}
