//! Numbers of texts, held against what the experiments they lead to measure.

use std::collections::HashMap;
use std::ops::ControlFlow;

use mambascope_core::job::Workshop;
use mambascope_lessons::course;
use mambascope_lessons::experiment::{Bench, Expected, Finding};

use crate::workshop;

/// The findings of the experiments that were asked for so far.
pub struct Measured {
    workshop: Workshop,
    findings: HashMap<&'static str, Vec<Finding>>,
}

impl Default for Measured {
    fn default() -> Self {
        Self {
            workshop: workshop(),
            findings: HashMap::new(),
        }
    }
}

impl Measured {
    /// What is wrong with a number of a text that leads to this finding; a text of nothing leads there without a number.
    pub fn wrong(&mut self, place: &str, text: &str, finding: &str) -> Option<String> {
        let place = format!("{place}: [{text}]({finding})");
        let Some((name, part)) = finding.split_once('/') else {
            return Some(format!("{place}: not experiment/finding"));
        };
        let Some(experiment) = course::experiments().find(|experiment| experiment.name == name)
        else {
            return Some(format!("{place}: no such experiment"));
        };
        let workshop = &mut self.workshop;
        let findings = self.findings.entry(experiment.name).or_insert_with(|| {
            let mut bench = Bench {
                workshop,
                progress: &mut |_| ControlFlow::Continue(()),
            };
            (experiment.run)(&mut bench).unwrap_or_else(|error| panic!("{name}: {error}"))
        });
        let Some(found) = findings.iter().find(|finding| finding.name == part) else {
            return Some(format!("{place}: no such finding"));
        };
        if text.is_empty() {
            return None;
        }
        let Some((value, half)) = read_number(text) else {
            return Some(format!("{place}: not a number"));
        };
        // Of a bound the text says the bound.
        let truth = match found.expected {
            Expected::AtMost(bound) | Expected::AtLeast(bound) if (value - bound).abs() <= half => {
                bound
            }
            _ => found.measured,
        };
        let is_right = (value - truth).abs() <= half;
        (!is_right).then(|| format!("{place}: measured {}", found.measured))
    }
}

/// What a number in a text says: its value, and half a unit of its last digit.
fn read_number(text: &str) -> Option<(f64, f64)> {
    let text = text.trim().replace('−', "-").replace(',', "");
    let (text, scale) = match text.strip_suffix('%') {
        Some(text) => (text.trim().to_owned(), 0.01),
        None => (text, 1.0),
    };
    let value: f64 = text.parse().ok()?;
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((&text, "0"));
    let digits = mantissa
        .split_once('.')
        .map_or(0, |(_, digits)| digits.len());
    let unit = 10f64.powi(exponent.parse::<i32>().ok()? - digits as i32);
    // A little more than half, for a number that lies on the edge.
    Some((value * scale, 0.5001 * unit * scale))
}

#[test]
fn numbers_of_the_texts_are_read_with_their_last_digit() {
    assert_eq!(read_number("17.3").map(|(value, _)| value), Some(17.3));
    assert!((read_number("95%").unwrap().1 - 0.005_001).abs() < 1e-9);
    assert_eq!(read_number("1,000").map(|(value, _)| value), Some(1000.0));
    assert!((read_number("1.5e-15").unwrap().1 - 0.05001e-15).abs() < 1e-20);
    assert_eq!(read_number("about ten"), None);
}
