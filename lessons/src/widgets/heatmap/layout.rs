//! Where the parts of a heatmap go, and which of them a small space can do without.

use egui::{Rect, pos2};

/// Height of the line with the title and the menu.
const TITLE_HEIGHT: f32 = 26.0;
/// Between the title and the map; holds the mark over a selected column.
const TITLE_GAP: f32 = 8.0;
/// Thickness of a line with the name of an axis.
const NAME: f32 = 18.0;
/// Between the map and the tick labels.
const TICK_GAP: f32 = 6.0;
/// Between the map and the colour bar.
const BAR_GAP: f32 = 14.0;
/// Thickness of the colour bar.
const BAR: f32 = 12.0;
/// A map smaller than this is not worth its ticks.
const LEAST_WIDTH: f32 = 90.0;
/// See [`LEAST_WIDTH`].
const LEAST_HEIGHT: f32 = 40.0;

/// How much room the texts want.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wants {
    /// The width of the widest row label.
    pub row_labels: f32,
    /// The height of the column labels.
    pub col_labels: f32,
    /// The width of the widest label of the colour bar.
    pub bar_labels: f32,
}

/// The places of the parts; `None` is a part there is no room for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Layout {
    pub title: Option<Rect>,
    pub map: Rect,
    pub row_name: Option<Rect>,
    pub row_labels: Option<Rect>,
    pub col_labels: Option<Rect>,
    pub col_name: Option<Rect>,
    pub bar: Option<Rect>,
    pub bar_labels: Option<Rect>,
    pub bar_name: Option<Rect>,
}

/// A length to be shared out, the most needed part first.
struct Room(f32);

impl Room {
    /// `cost`, if it is still there; otherwise nothing.
    fn take(&mut self, cost: f32) -> Option<f32> {
        (cost <= self.0).then(|| {
            self.0 -= cost;
            cost
        })
    }
}

/// Share out `outer`.
pub(super) fn arrange(outer: Rect, wants: Wants) -> Layout {
    let mut wide = Room(outer.width() - LEAST_WIDTH);
    let row_labels = wide.take(wants.row_labels + TICK_GAP);
    let bar = wide.take(BAR_GAP + BAR);
    let bar_labels = bar.and_then(|_| wide.take(wants.bar_labels + TICK_GAP));
    let row_name = row_labels.and_then(|_| wide.take(NAME));
    let bar_name = bar_labels.and_then(|_| wide.take(NAME));

    let mut high = Room(outer.height() - LEAST_HEIGHT);
    let title = high.take(TITLE_HEIGHT + TITLE_GAP);
    let col_labels = high.take(wants.col_labels + TICK_GAP);
    let col_name = col_labels.and_then(|_| high.take(NAME));

    let sum = |parts: &[Option<f32>]| parts.iter().flatten().sum::<f32>();
    let left = outer.left() + sum(&[row_name, row_labels]);
    let right = outer.right() - sum(&[bar, bar_labels, bar_name]);
    let top = outer.top() + sum(&[title]);
    let bottom = outer.bottom() - sum(&[col_labels, col_name]);
    let map = Rect::from_min_max(
        pos2(left, top),
        pos2(right.max(left + 1.0), bottom.max(top + 1.0)),
    );

    let beside = |from: f32, to: f32| Rect::from_x_y_ranges(from..=to, map.y_range());
    let below = |from: f32, to: f32| Rect::from_x_y_ranges(map.x_range(), from..=to);
    let labels_left = outer.left() + sum(&[row_name]);
    let strip = map.right() + BAR_GAP;
    let names_left = outer.right() - NAME;
    let names_top = outer.bottom() - sum(&[col_name]);
    Layout {
        title: title.map(|_| {
            Rect::from_x_y_ranges(outer.x_range(), outer.top()..=outer.top() + TITLE_HEIGHT)
        }),
        map,
        row_name: row_name.map(|width| beside(outer.left(), outer.left() + width)),
        row_labels: row_labels.map(|_| beside(labels_left, left - TICK_GAP)),
        col_labels: col_labels.map(|_| below(bottom + TICK_GAP, names_top)),
        col_name: col_name.map(|_| below(names_top, outer.bottom())),
        bar: bar.map(|_| beside(strip, strip + BAR)),
        bar_labels: bar_labels.map(|width| beside(strip + BAR + TICK_GAP, strip + BAR + width)),
        bar_name: bar_name.map(|_| beside(names_left, outer.right())),
    }
}

#[cfg(test)]
mod tests {
    use egui::vec2;

    use super::*;

    fn layout(width: f32, height: f32) -> (Rect, Layout) {
        let outer = Rect::from_min_size(pos2(10.0, 20.0), vec2(width, height));
        let wants = Wants {
            row_labels: 30.0,
            col_labels: 14.0,
            bar_labels: 34.0,
        };
        (outer, arrange(outer, wants))
    }

    fn parts(layout: &Layout) -> Vec<Rect> {
        let Layout {
            title,
            map,
            row_name,
            row_labels,
            col_labels,
            col_name,
            bar,
            bar_labels,
            bar_name,
        } = *layout;
        let around = [
            title, row_name, row_labels, col_labels, col_name, bar, bar_labels, bar_name,
        ];
        around.into_iter().flatten().chain([map]).collect()
    }

    #[test]
    fn parts_stay_inside_and_do_not_overlap() {
        for (width, height) in [(900.0, 240.0), (320.0, 150.0), (140.0, 90.0), (60.0, 30.0)] {
            let (outer, layout) = layout(width, height);
            let parts = parts(&layout);
            for (i, part) in parts.iter().enumerate() {
                assert!(outer.expand(0.01).contains_rect(*part), "{width}: {part:?}");
                for other in &parts[i + 1..] {
                    let common = part.shrink(0.01).intersect(*other);
                    assert!(!common.is_positive(), "{width}: {part:?} {other:?}");
                }
            }
        }
    }

    #[test]
    fn a_small_space_loses_names_before_ticks_before_the_map() {
        let (_, roomy) = layout(900.0, 240.0);
        assert_eq!(parts(&roomy).len(), 9);
        let (_, narrow) = layout(200.0, 240.0);
        assert!(narrow.row_labels.is_some() && narrow.bar_name.is_none());
        let (_, flat) = layout(900.0, 100.0);
        assert!(flat.title.is_some() && flat.col_labels.is_some() && flat.col_name.is_none());
        let (_, tiny) = layout(60.0, 30.0);
        assert_eq!(parts(&tiny), [tiny.map]);
    }
}
