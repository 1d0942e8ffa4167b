//! Where the pictures of a page go.

use egui::{Rect, Vec2, pos2, vec2};

/// Where the panels go: columns of equal width, and as many whole rows as fit the window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Board {
    columns: usize,
    rows: usize,
    pub(super) panel: Vec2,
}

impl Board {
    /// Room between panels.
    const GAP: Vec2 = vec2(20.0, 12.0);

    /// For so many panels in the room there is. A panel narrower than `least` cannot keep its labels apart: fewer columns then;
    /// one lower than it shows more of its axes than of its map: the board scrolls then.
    pub(super) fn new(room: Vec2, panels: usize, least: Vec2) -> Self {
        // Numbers of columns that leave no place of the last row empty.
        let fitting = |columns: &usize| {
            let gaps = Self::GAP.x * (*columns as f32 - 1.0);
            panels.is_multiple_of(*columns) && (room.x - gaps) / *columns as f32 >= least.x
        };
        let columns = [4, 3, 2].into_iter().find(fitting).unwrap_or(1);
        let rows = panels.div_ceil(columns);
        let pitch = least.y + Self::GAP.y;
        let seen = ((room.y + Self::GAP.y) / pitch).floor();
        let seen = seen.clamp(1.0, rows as f32);
        let share = |room: f32, parts: f32, gap: f32| ((room + gap) / parts - gap).floor();
        Self {
            columns,
            rows,
            panel: vec2(
                share(room.x, columns as f32, Self::GAP.x),
                share(room.y, seen, Self::GAP.y).max(least.y),
            ),
        }
    }

    pub(super) fn height(&self) -> f32 {
        self.rows as f32 * (self.panel.y + Self::GAP.y) - Self::GAP.y
    }

    pub(super) fn place(&self, nth: usize, corner: egui::Pos2) -> Rect {
        let (row, column) = (nth / self.columns, nth % self.columns);
        let step = self.panel + Self::GAP;
        let at = pos2(
            corner.x + column as f32 * step.x,
            corner.y + row as f32 * step.y,
        );
        Rect::from_min_size(at, self.panel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Vec2 = vec2(330.0, 168.0);

    #[test]
    fn panels_fill_the_window_and_do_not_overshoot_it() {
        for (width, height) in [
            (380.0, 500.0),
            (936.0, 560.0),
            (1576.0, 860.0),
            (2210.0, 1190.0),
            (3500.0, 1900.0),
        ] {
            let board = Board::new(vec2(width, height), 8, LEAST);
            assert!([1, 2, 4].contains(&board.columns));
            let last = board.place(7, pos2(0.0, 0.0));
            assert!(
                last.right() <= width && last.right() > width - 4.0,
                "{board:?}"
            );
            assert!(board.height() >= height - 4.0, "room is left: {board:?}");
            // Some whole number of rows ends at the window's edge.
            let pitch = board.panel.y + Board::GAP.y;
            let seen = ((height + Board::GAP.y) / pitch).round();
            let overshoot = seen * pitch - Board::GAP.y - height;
            assert!((-4.0..=0.0).contains(&overshoot), "{width}: {overshoot}");
            assert!(board.panel.y >= LEAST.y);
        }
        assert_eq!(Board::new(vec2(936.0, 560.0), 8, LEAST).columns, 2);
        let full = Board::new(vec2(1576.0, 860.0), 8, LEAST);
        assert!(full.columns == 4 && full.height() <= 860.0);
    }

    #[test]
    fn no_place_of_the_board_overlaps_another() {
        let board = Board::new(vec2(936.0, 560.0), 8, LEAST);
        for i in 0..8 {
            for j in 0..i {
                let (a, b) = (
                    board.place(i, pos2(7.0, 9.0)),
                    board.place(j, pos2(7.0, 9.0)),
                );
                assert!(!a.intersects(b), "{i} {j}");
            }
        }
    }
}
