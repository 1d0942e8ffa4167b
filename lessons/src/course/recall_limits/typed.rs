//! Facts the reader types, and what both memories say when one key is asked for.

use egui::accesskit::Role;
use egui::{
    Align2, Color32, Rect, RichText, Sense, Stroke, TextEdit, TextStyle, Ui, WidgetInfo, pos2, vec2,
};
use ndarray::{Array2, Axis};

use super::memory::{Facts, keys_of};
use crate::theme;
use crate::widgets::line::line;
use crate::widgets::number;

/// The most pairs that are told.
pub const MOST: usize = 64;
/// Characters the field of the pairs takes.
pub const CHARACTERS: usize = 1200;
/// Characters of a key that is asked for.
pub const OF_A_KEY: usize = 24;
/// Candidates drawn of a memory.
const SHOWN: usize = 8;

/// Pairs of words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pairs {
    /// Key and value, in the order told.
    pub pairs: Vec<(String, String)>,
    /// Entries that are no pair.
    pub unread: usize,
    /// Pairs beyond [`MOST`].
    pub beyond: usize,
}

impl Pairs {
    /// Reads "cat=3 dog=7": a colon does for the sign, and commas or semicolons for the space between.
    pub fn read(text: &str) -> Self {
        let is_between = |c: char| c.is_whitespace() || matches!(c, ',' | ';');
        let text = text.replace(':', "=");
        let mut closed = String::new();
        let mut parts = text.split('=').peekable();
        while let Some(part) = parts.next() {
            closed.push_str(part.trim());
            let Some(next) = parts.peek().copied() else {
                break;
            };
            // An entry without its value yet takes no part of the one behind it: "a= b=3".
            let words = next.split(is_between).filter(|word| !word.is_empty());
            let is_last = parts.clone().nth(1).is_none();
            let is_cut_off = next.starts_with(is_between) && words.count() == 1 && !is_last;
            closed.push_str(if is_cut_off { "= " } else { "=" });
        }
        let mut found = Self::default();
        for entry in closed.split(is_between).filter(|entry| !entry.is_empty()) {
            match entry.split_once('=') {
                Some((key, value))
                    if !(key.is_empty() || value.is_empty() || value.contains('=')) =>
                {
                    if found.pairs.len() < MOST {
                        // No longer than can be asked for.
                        let key = key.chars().take(OF_A_KEY).collect();
                        found.pairs.push((key, value.to_owned()));
                    } else {
                        found.beyond += 1;
                    }
                }
                _ => found.unread += 1,
            }
        }
        found
    }

    /// The different values, in the order they first come.
    fn values(&self) -> Vec<String> {
        let mut values: Vec<String> = Vec::new();
        for (_, value) in &self.pairs {
            if !values.contains(value) {
                values.push(value.clone());
            }
        }
        values
    }
}

/// A memory's candidates, the highest score first: the place of the value, and its score.
pub type Ranked = Vec<(usize, f64)>;

/// What was told, and what was said to one key.
pub struct Typed {
    /// What was read.
    pub told: Pairs,
    /// The different values.
    pub values: Vec<String>,
    /// What was asked for; empty where nothing was.
    pub key: String,
    /// The value this key was told last, a place in `values`.
    pub right: Option<usize>,
    /// What the linear memory said.
    pub linear: Ranked,
    /// What attention said.
    pub attention: Ranked,
}

/// The settings of both memories.
pub struct Memories {
    /// N.
    pub slots: usize,
    /// What every new fact multiplies the older ones with.
    pub decay: f64,
    /// Share of the keys that is common to all.
    pub correlation: f64,
    /// What attention multiplies its scores with.
    pub sharpness: f64,
    /// Draws the vectors.
    pub seed: u64,
}

impl Typed {
    /// Tells both memories `text` and asks for `key`; the facts are given with it, to be asked for all.
    pub fn ask(text: &str, key: &str, with: &Memories) -> (Self, Facts) {
        let told = Pairs::read(text);
        let values = told.values();
        let place = |value: &String| values.iter().position(|other| other == value);
        let keys = |words: &[&str]| {
            let words = words.iter().copied();
            keys_of(words, with.slots, with.correlation, with.seed)
        };
        let words: Vec<&str> = told.pairs.iter().map(|(key, _)| key.as_str()).collect();
        let values_k = told.pairs.iter().filter_map(|(_, value)| place(value));
        let facts = Facts::of_words(keys(&words), values_k.collect(), &values, with.seed);
        let key = key.trim();
        let last = told.pairs.iter().rfind(|(told, _)| told == key);
        let right = last.and_then(|(_, value)| place(value));
        let asked_qn = keys(&[key]);
        let ranked = |scores_qv: Array2<f64>| match key {
            "" => Ranked::new(),
            _ => rank(&scores_qv, right),
        };
        let typed = Self {
            linear: ranked(facts.linear_scores(with.decay, asked_qn.view())),
            attention: ranked(facts.attention_scores(with.sharpness, asked_qn.view())),
            key: key.to_owned(),
            right,
            values,
            told,
        };
        (typed, facts)
    }

    /// What stands beside the key that is asked for.
    pub fn note(&self) -> String {
        let times = self.told.pairs.iter().filter(|pair| pair.0 == self.key);
        let mut note = match (times.count(), self.right) {
            (_, None) if self.key.is_empty() => "type a key".to_owned(),
            (_, None) => "was never told: the right answer would be none".to_owned(),
            (1, Some(right)) => format!("was told {}", self.values[right]),
            (times, Some(right)) => format!(
                "was told {times} times, and last {}: both memories keep all of them",
                self.values[right]
            ),
        };
        let count = |count: usize, one: &str, more: &str| match count {
            1 => format!("1 {one}"),
            _ => format!("{count} {more}"),
        };
        note += &format!(
            ". {}, {}",
            count(self.told.pairs.len(), "pair", "pairs"),
            count(self.values.len(), "different value", "different values")
        );
        if self.told.unread > 0 {
            note += &format!(
                "; {} without key=value left out",
                count(self.told.unread, "entry", "entries")
            );
        }
        if self.told.beyond > 0 {
            note += &format!("; only the first {MOST} are told");
        }
        note
    }

    /// What a memory answers, in words.
    fn verdict(&self, name: &str, ranked: &Ranked) -> String {
        let Some(&(named, _)) = ranked.first() else {
            return format!("{name}: nothing to say");
        };
        let said = format!("{name}: {} = {}", self.key, self.values[named]);
        match self.right {
            Some(right) if right == named => format!("{said}, right"),
            Some(right) => format!("{said}, wrong: it was told {}", self.values[right]),
            None => format!("{said}, though it was never told"),
        }
    }

    /// The fact that is asked for, as it was told last.
    pub fn fact(&self) -> Option<usize> {
        self.told
            .pairs
            .iter()
            .rposition(|(key, _)| *key == self.key)
    }

    /// From the lowest score there is to the highest, zero among them: both memories are drawn to one scale.
    fn span(&self) -> (f64, f64) {
        let all = self.linear.iter().chain(&self.attention);
        all.fold((0.0f64, 0.0f64), |(low, high), &(_, score)| {
            (low.min(score), high.max(score))
        })
    }
}

/// The candidates of the first question. Of two with the same score the right one comes last: it was not ahead.
fn rank(scores_qv: &Array2<f64>, right: Option<usize>) -> Ranked {
    let first = scores_qv.index_axis(Axis(0), 0);
    let mut ranked: Ranked = first.iter().copied().enumerate().collect();
    ranked.sort_by(|a, b| {
        let by_score = b.1.total_cmp(&a.1);
        by_score.then((Some(a.0) == right).cmp(&(Some(b.0) == right)))
    });
    ranked
}

/// A text of at most so many characters, with spaces for whatever would not stand in a line.
pub fn tidy(text: &str, most: usize) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().take(most).map(plain).collect()
}

/// The fields: the pairs, and the key that is asked for with what is known of it.
pub fn fields(ui: &mut Ui, pairs: &mut String, asked: &mut String, typed: Option<&Typed>) {
    let edit = TextEdit::multiline(pairs)
        .char_limit(CHARACTERS)
        .desired_rows(2)
        .desired_width(f32::INFINITY)
        .hint_text("key=value key=value …");
    let response = ui.add(edit);
    response.widget_info(|| WidgetInfo::labeled(Role::MultilineTextInput, true, "pairs to tell"));
    if response.changed() {
        *pairs = tidy(pairs, CHARACTERS);
    }
    ui.horizontal(|ui| {
        ui.label("Ask for");
        let edit = TextEdit::singleline(asked)
            .char_limit(OF_A_KEY)
            .desired_width(120.0);
        let response = ui.add(edit);
        response.widget_info(|| WidgetInfo::labeled(Role::TextInput, true, "key to ask for"));
        let weak = theme::palette(ui.visuals()).weak_text;
        if let Some(typed) = typed {
            ui.label(RichText::new(typed.note()).small().color(weak));
        }
    });
}

/// The measures of the list of candidates.
const TITLE: f32 = 28.0;
const PITCH: f32 = 22.0;
const THICKNESS: f32 = 12.0;
const NAME: f32 = 84.0;
const VALUE: f32 = 58.0;
const TICK: f32 = 20.0;
/// Height of the picture of the candidates.
pub const HEIGHT: f32 = TITLE + (SHOWN as f32 + 1.0) * PITCH;

/// What a memory said, with the scores of its best candidates and of the right one.
pub fn candidates(ui: &mut Ui, name: &str, ranked: &Ranked, typed: &Typed) {
    let palette = theme::palette(ui.visuals());
    let (rect, response) = ui.allocate_exact_size(ui.available_size(), Sense::hover());
    let title = typed.verdict(name, ranked);
    let body = TextStyle::Body;
    let middle = rect.left_top() + vec2(0.0, TITLE / 2.0);
    let is_wrong = ranked.first().is_some_and(|&(v, _)| typed.right != Some(v));
    let ink = if is_wrong {
        palette.error
    } else {
        palette.text
    };
    line(
        ui,
        middle,
        Align2::LEFT_CENTER,
        &title,
        (body, ink),
        rect.width(),
    );
    let mut shown: Vec<(usize, (usize, f64))> =
        ranked.iter().copied().enumerate().take(SHOWN).collect();
    let right = ranked.iter().position(|&(v, _)| typed.right == Some(v));
    if let Some(place) = right.filter(|&place| place >= SHOWN) {
        // The right one is always there, at its rank.
        shown.pop();
        shown.push((place, ranked[place]));
    }
    let mut said = title;
    for (row, &(place, (v, score))) in shown.iter().enumerate() {
        let top = rect.top() + TITLE + row as f32 * PITCH;
        let room = Rect::from_min_size(pos2(rect.left(), top), vec2(rect.width(), PITCH));
        let name = match place {
            place if place == row => typed.values[v].clone(),
            _ => format!("{}. {}", place + 1, typed.values[v]),
        };
        let is_right = typed.right == Some(v);
        let colour = match (is_right, place) {
            (true, _) => palette.accent,
            (false, 0) => palette.error,
            _ => palette.series[7],
        };
        bar(ui, room, &name, score, typed.span(), (colour, is_right));
        said += &format!("\n{name}: {}", number(score as f32));
    }
    if ranked.len() > shown.len() {
        let more = match ranked.len() - shown.len() {
            1 => "and 1 more candidate".to_owned(),
            more => format!("and {more} more candidates"),
        };
        let top = rect.top() + TITLE + (SHOWN as f32 + 0.5) * PITCH;
        let at = pos2(rect.left() + NAME + 8.0, top);
        let face = (TextStyle::Small, palette.weak_text);
        line(ui, at, Align2::LEFT_CENTER, &more, face, rect.width());
    }
    response.widget_info(|| WidgetInfo::labeled(Role::Image, true, &said));
}

/// A candidate: its name, a bar from zero to its score, the score.
fn bar(
    ui: &Ui,
    room: Rect,
    name: &str,
    score: f64,
    (low, high): (f64, f64),
    (colour, is_right): (Color32, bool),
) {
    let palette = theme::palette(ui.visuals());
    let y = room.center().y;
    let face = |ink| (TextStyle::Body, ink);
    let at = pos2(room.left() + NAME, y);
    line(
        ui,
        at,
        Align2::RIGHT_CENTER,
        name,
        face(palette.text),
        NAME - 4.0,
    );
    let (left, right) = (room.left() + NAME + 8.0, room.right() - VALUE - TICK);
    let span = (high - low).max(f64::MIN_POSITIVE);
    let place = |value: f64| left + (right - left) * ((value - low) / span) as f32;
    let (zero, end) = (place(0.0), place(score));
    let painter = ui.painter();
    let block = Rect::from_x_y_ranges(
        zero.min(end)..=zero.max(end),
        y - THICKNESS / 2.0..=y + THICKNESS / 2.0,
    );
    painter.rect_filled(block, 2, colour);
    let zero_line = Stroke::new(1.0, palette.weak_text);
    painter.vline(zero, room.y_range(), zero_line);
    let at = pos2(room.right() - TICK, y);
    let text = format!("{score:.2}").replace('-', "−");
    line(
        ui,
        at,
        Align2::RIGHT_CENTER,
        &text,
        face(palette.weak_text),
        VALUE,
    );
    if is_right {
        let corner = pos2(room.right() - TICK + 8.0, y);
        let tick = [vec2(0.0, 0.5), vec2(3.5, 4.0), vec2(10.0, -4.5)].map(|by| corner + by);
        painter.add(egui::Shape::line(
            tick.into(),
            Stroke::new(2.0, palette.accent),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memories(decay: f64) -> Memories {
        Memories {
            slots: 16,
            decay,
            correlation: 0.0,
            sharpness: 32.0,
            seed: 1,
        }
    }

    #[test]
    fn pairs_are_read_as_people_write_them() {
        let read = Pairs::read(" cat=3,dog = 7; hen:2 nonsense =9=9 a=");
        let pair = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
        assert_eq!(
            read.pairs,
            [("cat", "3"), ("dog", "7"), ("hen", "2")].map(pair)
        );
        assert_eq!(read.unread, 2);
        // While a value is still to be typed.
        let read = Pairs::read("a=1 cat= dog=7");
        assert_eq!((read.pairs.len(), read.unread), (2, 1));
        let many: String = (0..100).map(|i| format!("k{i}={i} ")).collect();
        let read = Pairs::read(&many);
        assert_eq!((read.pairs.len(), read.beyond), (MOST, 36));
        assert_eq!(Pairs::read("   ,"), Pairs::default());
    }

    #[test]
    fn one_key_gets_the_answer_it_gets_among_all() {
        let text: String = (0..64).map(|i| format!("k{i}=v{} ", i % 40)).collect();
        let mut wrong = 0;
        for k in 0..64 {
            let (typed, facts) = Typed::ask(&text, &format!("k{k}"), &memories(1.0));
            let all = [facts.ask_linear(1.0), facts.ask_attention(32.0)];
            assert_eq!(typed.right, Some(k % 40));
            assert_eq!(typed.linear[0].0, all[0].named_k[k]);
            assert_eq!(typed.attention[0].0, all[1].named_k[k]);
            let ahead = typed.attention[0].1 - typed.attention[1].1;
            assert!((ahead - f64::from(all[1].margin_k[k]).abs()).abs() < 1e-6);
            wrong += usize::from(Some(typed.linear[0].0) != typed.right);
        }
        assert!(wrong > 0);
    }

    #[test]
    fn what_was_never_told_has_no_right_answer() {
        let (typed, _) = Typed::ask("cat=3 dog=7", "yak", &memories(1.0));
        assert_eq!((typed.right, typed.linear.len()), (None, 2));
        assert!(typed.note().starts_with("was never told"));
        let (typed, facts) = Typed::ask("", "cat", &memories(1.0));
        assert!(typed.linear.is_empty() && facts.len() == 0);
        let (typed, _) = Typed::ask("cat=3 cat=5", " cat ", &memories(1.0));
        assert_eq!(typed.right, Some(1));
        assert!(typed.note().contains("2 times"));
    }

    #[test]
    fn a_text_is_made_tidy() {
        assert_eq!(tidy("a\n\tb\u{0}cd", 5), "a  b ");
    }
}
