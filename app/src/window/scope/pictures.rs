//! What the panels draw, laid out once for each change of the data: a frame only slices it.

use std::sync::Arc;

use mambascope_core::model::Model;
use mambascope_core::watch::{
    AttentionRecord, LayerRecord, Reading as Readings, ScanRecord, TokenRecord, Watched,
};

use mambascope_lessons::widgets::Scale;
use ndarray::Array2;

use crate::window::{ChannelOrder, DeltaView, Reading, ScopeSettings};

/// Bars of the half-life histogram for each factor of ten.
const BARS_PER_DECADE: f64 = 8.0;

/// Matrices and vectors of what is on the screen.
pub(super) struct Pictures {
    /// Changes whenever the matrices do.
    pub(super) version: u64,
    made_from: Option<Key>,
    /// Readable text of every recorded token.
    pub(super) texts: Texts,
    /// The ribbon's reading, one a record.
    pub(super) ribbon: Vec<f32>,
    /// The overview's reading, `[layers · tokens]`.
    pub(super) overview: Vec<f32>,
    /// What is shown of the layer's Δ, `[channels · tokens]`, rows in `channels`' order.
    pub(super) delta: Vec<f32>,
    /// What that is.
    pub(super) delta_view: DeltaView,
    /// Its colours.
    pub(super) delta_scale: Scale,
    /// The order of its rows.
    pub(super) order: ChannelOrder,
    /// What a row of Δ is: a channel, or in Mamba-2 a head.
    pub(super) delta_of: &'static str,
    /// How the heads of a layer of attention look back, their mean, `[tokens · tokens]` over the last of them.
    pub(super) attention: Vec<f32>,
    /// The weight of the last colour of it.
    pub(super) attention_most: f32,
    /// Which channel each row of Δ is.
    pub(super) channels: Vec<usize>,
    /// B of the layer, `[slots · tokens]`.
    pub(super) b: Vec<f32>,
    /// C of the layer, `[slots · tokens]`.
    pub(super) c: Vec<f32>,
    /// ‖h[·, n]‖ over time, one line a slot: (token, norm).
    pub(super) norms: Vec<Vec<[f64; 2]>>,
    /// A of the layer, and which layer that is.
    a: Option<(usize, Array2<f32>)>,
    /// The |h| of the last colour.
    pub(super) h_most: f32,
    half_life: Option<(usize, usize, Histogram)>,
}

/// The tokens of a window into a text, readable.
#[derive(Default)]
pub(super) struct Texts {
    first: usize,
    ids: Vec<u32>,
    texts: Vec<String>,
}

impl Texts {
    /// The token at a position of the whole text; nothing where it is not recorded.
    pub(super) fn get(&self, position: usize) -> &str {
        let index = position.checked_sub(self.first);
        index
            .and_then(|index| self.texts.get(index))
            .map_or("", String::as_str)
    }

    /// All of them, one after the other.
    pub(super) fn concat(&self) -> String {
        self.texts.concat()
    }

    /// Names what is new.
    fn update(&mut self, watched: &Watched, model: &Model) {
        let ids = &watched.ids[watched.first..watched.end()];
        let gone = watched.first.saturating_sub(self.first);
        if watched.first < self.first || gone > self.ids.len() {
            *self = Self::default();
        } else {
            self.ids.drain(..gone);
            self.texts.drain(..gone);
        }
        self.first = watched.first;
        let same = self.ids.iter().zip(ids).take_while(|(a, b)| a == b).count();
        self.ids.truncate(same);
        self.texts.truncate(same);
        self.ids.extend_from_slice(&ids[same..]);
        self.texts
            .extend(ids[same..].iter().map(|&id| token_text(model, id)));
    }
}

/// What the matrices were made from.
#[derive(Clone)]
struct Key {
    watched: Arc<Watched>,
    layer: usize,
    reading: Reading,
    all_layers: bool,
    order: ChannelOrder,
    delta_view: DeltaView,
}

impl Key {
    /// All but the text.
    fn choices(&self) -> (usize, Reading, bool, ChannelOrder, DeltaView) {
        (
            self.layer,
            self.reading,
            self.all_layers,
            self.order,
            self.delta_view,
        )
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.watched, &other.watched) && self.choices() == other.choices()
    }
}

/// How many (channel, slot) pairs forget at which pace.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Histogram {
    /// (log₁₀ of the half-life at the bar's middle, count).
    pub(super) bars: Vec<(f64, usize)>,
    /// The half-life half of the pairs are below, in tokens.
    pub(super) median: f64,
}

impl Histogram {
    /// Width of a bar on the logarithmic axis.
    pub(super) const WIDTH: f64 = 1.0 / BARS_PER_DECADE;

    fn new(half_lives: impl Iterator<Item = f64>) -> Self {
        let mut logs: Vec<f64> = half_lives
            .map(f64::log10)
            .filter(|log| log.is_finite())
            .collect();
        logs.sort_unstable_by(f64::total_cmp);
        let mut bars: Vec<(f64, usize)> = Vec::new();
        for log in &logs {
            let middle = ((log * BARS_PER_DECADE).floor() + 0.5) / BARS_PER_DECADE;
            match bars.last_mut() {
                Some((at, count)) if *at == middle => *count += 1,
                _ => bars.push((middle, 1)),
            }
        }
        Self {
            bars,
            median: logs
                .get(logs.len() / 2)
                .map_or(f64::NAN, |log| 10f64.powf(*log)),
        }
    }
}

/// The text of a token with spaces and line ends as they are, bytes of broken characters in hex; its number without a tokenizer.
pub(in crate::window) fn token_text(model: &Model, id: u32) -> String {
    let Some(tokenizer) = &model.tokenizer else {
        return mambascope_core::tokenizer::id_label(id);
    };
    let bytes = tokenizer.bytes_of(id).unwrap_or_default();
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.is_empty() => text.to_owned(),
        _ => tokenizer.readable(id),
    }
}

impl Default for Pictures {
    fn default() -> Self {
        Self {
            version: 0,
            made_from: None,
            texts: Texts::default(),
            ribbon: Vec::new(),
            overview: Vec::new(),
            delta: Vec::new(),
            delta_view: DeltaView::default(),
            delta_scale: Scale::log(1e-3, 1.0),
            order: ChannelOrder::default(),
            delta_of: "channel",
            attention: Vec::new(),
            attention_most: 1.0,
            channels: Vec::new(),
            b: Vec::new(),
            c: Vec::new(),
            norms: Vec::new(),
            a: None,
            h_most: 0.0,
            half_life: None,
        }
    }
}

impl Pictures {
    /// Brings everything up to date with what was watched and what is asked to be seen.
    pub(super) fn update(
        &mut self,
        watched: &Arc<Watched>,
        model: &Model,
        settings: &ScopeSettings,
    ) {
        let key = Key {
            watched: Arc::clone(watched),
            layer: watched.layer,
            reading: settings.reading,
            all_layers: settings.all_layers,
            order: settings.order,
            delta_view: settings.delta_view,
        };
        if self.made_from.as_ref() == Some(&key) {
            return;
        }
        // The token looked at alone does not change the matrices.
        let same_records = self
            .made_from
            .as_ref()
            .is_some_and(|old| same_matrices(old, &key));
        self.made_from = Some(key);
        if same_records {
            return;
        }
        self.version += 1;
        self.texts.update(watched, model);
        self.fill(watched, settings);
    }

    fn fill(&mut self, watched: &Watched, settings: &ScopeSettings) {
        // Another text may have another token at the same place.
        self.half_life = None;
        let (records, layer) = (&watched.records, watched.layer);
        let layers = records.first().map_or(0, |record| record.layers.len());
        let reading = settings.reading;
        self.ribbon = records
            .iter()
            .map(|record| ribbon_value(record, layer, settings))
            .collect();
        self.overview = (0..layers)
            .flat_map(|i| {
                records
                    .iter()
                    .map(move |record| layer_value(&record.layers[i], reading))
            })
            .collect();
        let rows = |pick: fn(&ScanRecord) -> &[f32]| {
            let scans = records
                .iter()
                .filter_map(|record| record.layers[layer].scan());
            by_row(scans.map(pick))
        };
        let a_delta = records
            .first()
            .and_then(|record| record.layers[layer].scan());
        self.delta_of = match a_delta {
            Some(scan) if scan.delta.len() < scan.u_d.len() => "head",
            _ => "channel",
        };
        self.fill_attention(watched);
        self.b = rows(|record| &record.b);
        self.c = rows(|record| &record.c);
        self.fill_delta(rows(|record| &record.delta), records.len(), settings);
        let slots = watched.slot_norms.first().map_or(0, |norms| norms.len());
        let line = |n: usize| {
            let points = watched.slot_norms.iter().zip(watched.first..);
            points
                .map(|(norms, token)| [token as f64, f64::from(norms[n])])
                .collect()
        };
        self.norms = (0..slots).map(line).collect();
        self.h_most = state_reach(watched);
    }

    /// Lays out where the layer's heads look, if it is one of attention.
    fn fill_attention(&mut self, watched: &Watched) {
        self.attention.clear();
        let shown = watched.records.len().min(ATTENTION_TOKENS);
        let skipped = watched.records.len() - shown;
        let rows = watched.records.iter().zip(watched.first..).skip(skipped);
        let from = watched.first + skipped;
        self.attention_most = 0.0;
        for (record, position) in rows {
            let Some(record) = record.layers[watched.layer].attention() else {
                return;
            };
            let columns = from..from + shown;
            for column in columns {
                let weight = mean_weight(record, position, column);
                // The first tokens have few to look at: their weights would take all the colours.
                if position >= 8 {
                    self.attention_most = self.attention_most.max(weight);
                }
                self.attention.push(weight);
            }
        }
        if !(self.attention_most > 0.0) {
            self.attention_most = 1.0;
        }
    }

    /// Orders the rows of Δ, `[channels · tokens]`, and makes of them what is to be shown.
    fn fill_delta(&mut self, delta: Vec<f32>, tokens: usize, settings: &ScopeSettings) {
        self.order = settings.order;
        self.delta_view = settings.delta_view;
        self.channels = channel_order(&delta, tokens, settings.order);
        let rows = self
            .channels
            .iter()
            .map(|&d| &delta[d * tokens..(d + 1) * tokens]);
        self.delta = match settings.delta_view {
            DeltaView::Absolute => rows.flatten().copied().collect(),
            DeltaView::Relative => rows.flat_map(relative).collect(),
        };
        self.delta_scale = match settings.delta_view {
            DeltaView::Absolute => spread(&self.delta),
            DeltaView::Relative => swing(&self.delta),
        };
    }

    /// Half-lives ln 2 / (Δ·|A|) of all (channel, slot) pairs at one token.
    pub(super) fn half_life(
        &mut self,
        watched: &Watched,
        model: &Model,
        token: usize,
    ) -> Option<&Histogram> {
        let layer = watched.layer;
        let record = watched.record(token)?;
        if self
            .half_life
            .as_ref()
            .is_none_or(|(at, of, _)| (*at, *of) != (token, layer))
        {
            if self.a.as_ref().is_none_or(|(of, _)| *of != layer) {
                self.a = Some((layer, model.layers[layer].mixer.decay()?));
            }
            let (_, a_nd) = self.a.as_ref()?;
            let delta = &record.layers[layer].scan()?.delta;
            let rates = a_nd.indexed_iter().map(|((_, d), &a)| {
                std::f64::consts::LN_2 / (f64::from(delta[d]) * f64::from(a.abs()))
            });
            self.half_life = Some((token, layer, Histogram::new(rates)));
        }
        self.half_life.as_ref().map(|(_, _, histogram)| histogram)
    }
}

/// The map of attention shows so many tokens, the last ones: more could not be told apart.
pub(super) const ATTENTION_TOKENS: usize = 256;

/// The mean over heads of what the token at `position` takes from the one at `column`; nothing from what comes after it.
fn mean_weight(record: &AttentionRecord, position: usize, column: usize) -> f32 {
    let seen = position + 1 - record.first;
    let Some(place) = column
        .checked_sub(record.first)
        .filter(|&place| place < seen)
    else {
        return f32::NAN;
    };
    let heads = record.weights.len() / seen;
    let weights = record.weights.iter().skip(place).step_by(seen);
    weights.sum::<f32>() / heads as f32
}

/// Whether two keys differ at most in the token looked at.
fn same_matrices(old: &Key, new: &Key) -> bool {
    let (a, b) = (&old.watched, &new.watched);
    old.choices() == new.choices()
        && a.first == b.first
        && a.records.len() == b.records.len()
        && a.ids.len() == b.ids.len()
        && a.records
            .iter()
            .zip(&b.records)
            .all(|(a, b)| Arc::ptr_eq(a, b))
}

/// The reading of one token in one layer; attention has none.
fn layer_value(record: &LayerRecord, wanted: Reading) -> f32 {
    let Some(ScanRecord { reading, .. }) = record.scan() else {
        return f32::NAN;
    };
    reading_value(*reading, wanted)
}

fn reading_value(reading: Readings, wanted: Reading) -> f32 {
    match wanted {
        // Surprise belongs to a token, not to a layer: the overview then shows Δ.
        Reading::Delta | Reading::Surprise => reading.mean_delta,
        Reading::Write => reading.write,
        Reading::Retention => reading.retention,
    }
}

fn ribbon_value(record: &TokenRecord, layer: usize, settings: &ScopeSettings) -> f32 {
    if settings.reading == Reading::Surprise {
        return record.surprise.unwrap_or(f32::NAN);
    }
    if settings.all_layers {
        let scans = record.layers.iter().filter_map(LayerRecord::scan);
        let values = scans.map(|scan| reading_value(scan.reading, settings.reading));
        let (sum, count) = values.fold((0.0, 0.0), |(sum, count), x| (sum + x, count + 1.0));
        // Without a single scan there is nothing to mean: 0/0 shows as no value.
        return sum / count;
    }
    layer_value(&record.layers[layer], settings.reading)
}

/// `[rows · tokens]` from one column a token.
fn by_row<'a>(columns: impl Iterator<Item = &'a [f32]>) -> Vec<f32> {
    let columns: Vec<&[f32]> = columns.collect();
    let rows = columns.first().map_or(0, |column| column.len());
    (0..rows)
        .flat_map(|row| columns.iter().map(move |column| column[row]))
        .collect()
}

/// Three times the root mean square of the strongest slot at its strongest: the colours mean the same at every token of the
/// text, and a few giants do not leave the rest without any.
fn state_reach(watched: &Watched) -> f32 {
    let channels = watched
        .records
        .first()
        .and_then(|record| record.layers[watched.layer].scan())
        .map_or(1, |record| record.u_d.len());
    let norms = watched.slot_norms.iter().flat_map(|norms| norms.iter());
    let strongest = norms
        .copied()
        .filter(|norm| norm.is_finite())
        .fold(0.0, f32::max);
    3.0 * strongest / (channels as f32).sqrt()
}

/// log₂ of each value over the mean of its row.
fn relative(row: &[f32]) -> impl Iterator<Item = f32> {
    let mean = mean(row);
    row.iter().map(move |delta| (delta / mean).log2())
}

fn mean(row: &[f32]) -> f32 {
    row.iter().sum::<f32>() / row.len() as f32
}

/// A sorted sample of the values that pass: enough of them to find a quantile within a frame.
fn sample(values: &[f32], pass: impl Fn(f32) -> Option<f32>) -> Vec<f32> {
    const MOST: usize = 1 << 16;
    // Odd, so that it does not keep step with rows of a power of two.
    let every = (values.len() / MOST) | 1;
    let picked = values.iter().step_by(every);
    let mut sorted: Vec<f32> = picked.filter_map(|&value| pass(value)).collect();
    sorted.sort_unstable_by(f32::total_cmp);
    sorted
}

fn quantile(sorted: &[f32], share: f64) -> Option<f32> {
    let index = (sorted.len().saturating_sub(1) as f64 * share) as usize;
    sorted.get(index).copied()
}

/// A logarithmic scale over the middle 99 % of the values: a few channels that hardly move would take all the colours.
fn spread(delta: &[f32]) -> Scale {
    let sorted = sample(delta, |x| (x.is_finite() && x > 0.0).then_some(x));
    match (quantile(&sorted, 0.005), quantile(&sorted, 0.995)) {
        (Some(lo), Some(hi)) => Scale::log(lo, hi),
        _ => Scale::log(1e-3, 1.0),
    }
}

/// A scale as far to either side of zero as 19 of 20 values go (pixels are means of several, and means are tamer), and no
/// closer than a tenth of a doubling.
fn swing(relative: &[f32]) -> Scale {
    let sorted = sample(relative, |x| x.is_finite().then_some(x.abs()));
    Scale::symmetric(quantile(&sorted, 0.95).unwrap_or(1.0).max(0.1))
}

fn channel_order(delta: &[f32], tokens: usize, order: ChannelOrder) -> Vec<usize> {
    let mut channels: Vec<usize> = (0..delta.len().checked_div(tokens).unwrap_or(0)).collect();
    // Before the first token there is nothing to order.
    if channels.is_empty() {
        return channels;
    }
    let key: Vec<f32> = match order {
        ChannelOrder::Index => return channels,
        ChannelOrder::Mean => delta.chunks_exact(tokens).map(mean).collect(),
        ChannelOrder::Variance => delta
            .chunks_exact(tokens)
            .map(|row| {
                let mean = mean(row);
                row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>()
            })
            .collect(),
    };
    channels.sort_by(|&a, &b| key[b].total_cmp(&key[a]));
    channels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_lives_fall_into_their_bars() {
        let histogram = Histogram::new([1.0, 1.01, 10.0, f64::INFINITY].into_iter());
        assert_eq!(histogram.bars, [(0.0625, 2), (1.0625, 1)]);
        assert!((histogram.median - 1.01).abs() < 1e-12);
    }

    #[test]
    fn channels_are_ordered_by_mean_and_variance() {
        let delta = [1.0, 1.0, 0.0, 1.5, 3.0, 3.1];
        assert_eq!(channel_order(&delta, 2, ChannelOrder::Index), [0, 1, 2]);
        assert_eq!(channel_order(&delta, 2, ChannelOrder::Mean), [2, 0, 1]);
        assert_eq!(channel_order(&delta, 2, ChannelOrder::Variance), [1, 2, 0]);
        for order in ChannelOrder::ALL {
            assert!(channel_order(&[], 0, order).is_empty(), "{order:?}");
        }
    }

    #[test]
    fn relative_to_its_mean_a_channel_shows_its_tokens() {
        let small: Vec<f32> = relative(&[0.001, 0.001, 0.004]).collect();
        let large: Vec<f32> = relative(&[1.0, 1.0, 4.0]).collect();
        assert_eq!(small.len(), 3);
        for (a, b) in small.iter().zip(&large) {
            assert!((a - b).abs() < 1e-4, "{small:?} {large:?}");
        }
        assert!((large[0] + 1.0).abs() < 1e-6 && (large[2] - 1.0).abs() < 1e-6);
        let scale = swing(&large);
        assert!((scale.hi - 1.0).abs() < 1e-6 && scale.lo == -scale.hi);
        assert_eq!(swing(&[0.0, f32::NAN]).hi, 0.1);
    }

    #[test]
    fn columns_become_rows() {
        assert_eq!(
            by_row([&[1.0, 2.0][..], &[3.0, 4.0]].into_iter()),
            [1.0, 3.0, 2.0, 4.0]
        );
    }
}
