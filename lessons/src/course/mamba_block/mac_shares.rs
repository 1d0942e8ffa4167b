//! Where the multiplications of a block go, for sizes of one's own.

use std::ops::{ControlFlow, RangeInclusive};

use egui::Ui;
use mambascope_core::job::{JobError, Progress, Workshop};
use mambascope_core::study::Study;
use serde::{Deserialize, Serialize};

use super::macs::{Macs, parameters, usual_dims};
use crate::demo::{Around, Demo, Scene};
use crate::theme;
use crate::widgets::controls::{controls, picture, slider};
use crate::widgets::plots::footnote;
use crate::widgets::{Bar, Bars};

const WIDTH: RangeInclusive<usize> = 64..=8192;
const EXPAND: RangeInclusive<usize> = 1..=4;
const SLOTS: RangeInclusive<usize> = 1..=256;
const TAPS: RangeInclusive<usize> = 2..=8;

/// The controls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MacShares {
    width: usize,
    expand: usize,
    slots: usize,
    taps: usize,
}

impl Default for MacShares {
    fn default() -> Self {
        Self {
            width: 768,
            expand: 2,
            slots: 16,
            taps: 4,
        }
    }
}

/// What the controls give.
pub struct Shares {
    macs: Macs,
    parameters: usize,
}

impl Study for MacShares {
    type Answer = Shares;

    fn compute(
        &self,
        _: &mut Workshop,
        _: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Shares, JobError> {
        let dims = usual_dims(self.width, self.expand, self.slots, self.taps);
        Ok(Shares {
            macs: Macs::of(self.width, &dims),
            parameters: parameters(self.width, &dims),
        })
    }
}

impl Demo for MacShares {
    const ID: &'static str = "mac-shares";
    const TITLE: &'static str = "Where the work of a block is";
    type Study = Self;

    fn study(&self, _: &Around) -> Option<Self> {
        Some(self.clone())
    }

    fn ui(&mut self, ui: &mut Ui, scene: &Scene<'_, Shares>) {
        controls(ui, |ui| {
            if ui.button("mamba-130m").clicked() {
                *self = Self::default();
            }
            if ui.button("mamba-2.8b").clicked() {
                *self = Self {
                    width: 2560,
                    ..Self::default()
                };
            }
            slider(ui, "width, e", &mut self.width, WIDTH);
            slider(ui, "expand, d/e", &mut self.expand, EXPAND);
            slider(ui, "slots, N", &mut self.slots, SLOTS);
            slider(ui, "taps, K", &mut self.taps, TAPS);
        });
        let guess = scene.guess("scan-share");
        picture(ui, 156.0, |ui| {
            let Some(answer) = scene.answer else { return };
            let macs = &answer.macs;
            let mut bars: Vec<Bar<'_>> = [
                ("in_proj: 2·d·e", macs.in_proj),
                ("out_proj: e·d", macs.out_proj),
                ("x_proj + dt_proj: (2r + 2N)·d", macs.x_proj + macs.dt_proj),
                ("scan: 4·d·N", macs.scan),
                ("convolution: K·d", macs.conv),
            ]
            .into_iter()
            .map(|(label, part)| Bar {
                label,
                value: macs.share(part) as f32,
                came: false,
            })
            .collect();
            if let Some(guess) = guess {
                bars.push(Bar {
                    label: "your guess of the scan",
                    value: guess as f32 / 100.0,
                    came: true,
                });
            }
            Bars::new("Share of the multiplications of a token", &bars).show(ui);
        });
        let weak = theme::palette(ui.visuals()).weak_text;
        let text = scene.answer.map_or(String::new(), |answer| {
            format!(
                "{} multiplications a token and block, {} weights. Each multiplication has an addition; exponentials, the norm, SiLU and the gate are not counted.",
                thousands(answer.macs.total()),
                thousands(answer.parameters)
            )
        });
        footnote(ui, &text, weak);
    }

    fn clamp(&mut self) {
        for (value, range) in [
            (&mut self.width, WIDTH),
            (&mut self.expand, EXPAND),
            (&mut self.slots, SLOTS),
            (&mut self.taps, TAPS),
        ] {
            *value = (*value).clamp(*range.start(), *range.end());
        }
    }

    fn ends() -> Vec<Self> {
        let at = |end: fn(&RangeInclusive<usize>) -> usize| Self {
            width: end(&WIDTH),
            expand: end(&EXPAND),
            slots: end(&SLOTS),
            taps: end(&TAPS),
        };
        vec![at(|range| *range.start()), at(|range| *range.end())]
    }
}

/// A count with commas between thousands.
fn thousands(count: usize) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
