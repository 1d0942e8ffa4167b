//! Rows and columns over a borrowed slice, and how to make fewer of them.

use std::ops::Range;

/// What stands for several cells that share a pixel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pooling {
    /// The one of greatest magnitude, so that no spike is lost.
    #[default]
    Loudest,
    /// Their mean, where neighbours differ by habit and a column should show its own level.
    Mean,
}

/// A view of a slice as rows and columns, at any stride.
///
/// A place that falls outside the slice reads as NaN.
#[derive(Clone, Copy, Debug)]
pub struct Grid<'a> {
    values: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Grid<'a> {
    /// `values` holds one row after the other.
    pub fn row_major(values: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(values, rows, cols, cols, 1)
    }

    /// `values` holds one column after the other: the transpose, without a copy.
    pub fn col_major(values: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::strided(values, rows, cols, 1, rows)
    }

    /// Row `r`, column `c` is `values[r * row_stride + c * col_stride]`.
    ///
    /// To look at one plane of a larger array, begin the slice at its first value.
    pub fn strided(
        values: &'a [f32],
        rows: usize,
        cols: usize,
        row_stride: usize,
        col_stride: usize,
    ) -> Self {
        Self {
            values,
            rows,
            cols,
            row_stride,
            col_stride,
        }
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Whether there is no cell at all.
    pub fn is_empty(&self) -> bool {
        self.rows == 0 || self.cols == 0
    }

    /// The value of a cell; NaN outside.
    pub fn get(&self, row: usize, col: usize) -> f32 {
        if row >= self.rows || col >= self.cols {
            return f32::NAN;
        }
        self.at(row * self.row_stride + col * self.col_stride)
    }

    /// Every value, in rows.
    pub fn iter(&self) -> impl Iterator<Item = f32> + use<'a> {
        let grid = *self;
        (0..grid.rows).flat_map(move |r| (0..grid.cols).map(move |c| grid.get(r, c)))
    }

    /// How the slice is read, for telling one view of it from another.
    pub(super) fn shape(&self) -> [usize; 4] {
        [self.rows, self.cols, self.row_stride, self.col_stride]
    }

    fn at(&self, index: usize) -> f32 {
        self.values.get(index).copied().unwrap_or(f32::NAN)
    }

    /// One value for each pair of bins, in rows; NaN if any of them is.
    pub(super) fn pooled(&self, rows: Bins, cols: Bins, pooling: Pooling) -> Vec<f32> {
        /// Columns visited together where they, not the rows, are contiguous in memory: what one
        /// of them brings into the cache is still there when its next row comes up.
        const BLOCK: usize = 16;
        let mut pooled = vec![0.0; rows.count * cols.count];
        let all_cols = cols.all(self.cols);
        let col_bins: Vec<usize> = all_cols.clone().map(|col| cols.of(col)).collect();
        let block = if self.col_stride <= self.row_stride {
            col_bins.len().max(1)
        } else {
            BLOCK
        };
        for (nth, bins) in col_bins.chunks(block).enumerate() {
            let first = all_cols.start + nth * block;
            for row in rows.all(self.rows) {
                let line = &mut pooled[rows.of(row) * cols.count..][..cols.count];
                let start = row * self.row_stride + first * self.col_stride;
                for (i, bin) in bins.iter().enumerate() {
                    let next = self.at(start + i * self.col_stride);
                    line[*bin] = match pooling {
                        Pooling::Loudest => louder(line[*bin], next),
                        Pooling::Mean => line[*bin] + next,
                    };
                }
            }
        }
        if pooling == Pooling::Mean {
            self.divide(&mut pooled, rows, cols);
        }
        pooled
    }

    /// Sums to means: by how many cells each pair of bins has.
    fn divide(&self, sums: &mut [f32], rows: Bins, cols: Bins) {
        if cols.count == 0 {
            return;
        }
        for (row, line) in sums.chunks_exact_mut(cols.count).enumerate() {
            let high = rows.cells(row, self.rows).len();
            for (col, sum) in line.iter_mut().enumerate() {
                *sum /= (high * cols.cells(col, self.cols).len()).max(1) as f32;
            }
        }
    }

    /// The cell whose value [`Self::pooled`] shows for a pair of bins.
    pub(super) fn loudest(&self, rows: Range<usize>, cols: Range<usize>) -> (usize, usize) {
        let mut best = (rows.start, cols.start);
        for row in rows {
            for col in cols.clone() {
                let (old, new) = (self.get(best.0, best.1), self.get(row, col));
                if !old.is_nan() && (new.is_nan() || new.abs() > old.abs()) {
                    best = (row, col);
                }
            }
        }
        best
    }
}

fn louder(kept: f32, next: f32) -> f32 {
    if kept.is_nan() || next.abs() <= kept.abs() {
        kept
    } else {
        next
    }
}

/// Consecutive bins of equally many cells along one axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Bins {
    /// The first cell of the first bin, a multiple of `size`.
    pub first: usize,
    /// How many cells share a bin.
    pub size: usize,
    /// How many bins there are.
    pub count: usize,
}

impl Bins {
    /// The bins that cover the cells from `start` to `end`, at most `most` of them and one more.
    ///
    /// Bins begin at multiples of their size, so that panning does not reshuffle them.
    pub fn covering(start: f64, end: f64, most: usize) -> Self {
        let size = ((end - start) / most.max(1) as f64).ceil().max(1.0) as usize;
        let first = (start / size as f64).floor() as usize * size;
        let count = (end.ceil() as usize).saturating_sub(first).div_ceil(size);
        Self { first, size, count }
    }

    /// The cells of bin `index` on an axis of `len` cells.
    pub fn cells(&self, index: usize, len: usize) -> Range<usize> {
        let start = self.first + index * self.size;
        start.min(len)..(start + self.size).min(len)
    }

    /// The cells of all bins.
    fn all(&self, len: usize) -> Range<usize> {
        self.first.min(len)..(self.first + self.count * self.size).min(len)
    }

    /// The bin a cell is in.
    pub fn of(&self, cell: usize) -> usize {
        cell.saturating_sub(self.first) / self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strides_reach_every_layout() {
        let values: Vec<f32> = (0..6).map(|v| v as f32).collect();
        let by_row = Grid::row_major(&values, 2, 3);
        let by_col = Grid::col_major(&values, 3, 2);
        assert_eq!(by_row.get(1, 2), 5.0);
        for (r, c) in [(0, 0), (0, 1), (1, 2)] {
            assert_eq!(by_row.get(r, c), by_col.get(c, r));
        }
        assert!(by_row.get(2, 0).is_nan());
        assert!(by_row.get(0, 3).is_nan());
        assert_eq!(by_row.iter().collect::<Vec<_>>(), values);
    }

    #[test]
    fn a_slice_too_short_reads_as_missing() {
        let grid = Grid::row_major(&[1.0, 2.0], 2, 2);
        assert_eq!(grid.get(0, 1), 2.0);
        assert!(grid.get(1, 0).is_nan());
    }

    #[test]
    fn bins_cover_what_is_asked() {
        for (start, end, most) in [(0.0, 10.0, 10), (0.0, 1000.0, 300), (7.3, 911.9, 100)] {
            let bins = Bins::covering(start, end, most);
            assert!(bins.first as f64 <= start);
            assert!((bins.first + bins.count * bins.size) as f64 >= end);
            assert!(bins.count <= most + 1, "{bins:?}");
            assert_eq!(bins.first % bins.size, 0);
        }
        assert_eq!(Bins::covering(0.0, 10.0, 50).size, 1);
    }

    /// A grid of quiet noise with one loud negative value.
    fn quiet_but_for_one(rows: usize, cols: usize, loud: usize) -> Vec<f32> {
        let mut values: Vec<f32> = (0..rows * cols).map(|i| (i % 7) as f32 * 0.1).collect();
        values[loud] = -9.0;
        values
    }

    #[test]
    fn pooling_keeps_the_loudest_value_in_either_memory_order() {
        let (rows, cols) = (50, 70);
        let values = quiet_but_for_one(rows, cols, 31 * cols + 44);
        let down = Bins::covering(0.0, 50.0, 8);
        let across = Bins::covering(0.0, 70.0, 9);
        let by_row = Grid::row_major(&values, rows, cols);
        let pooled = by_row.pooled(down, across, Pooling::Loudest);
        let slot = down.of(31) * across.count + across.of(44);
        assert_eq!(pooled[slot], -9.0);
        assert_eq!(pooled.iter().filter(|v| **v == -9.0).count(), 1);

        let by_col = Grid::col_major(&values, cols, rows);
        let turned = by_col.pooled(across, down, Pooling::Loudest);
        for r in 0..down.count {
            for c in 0..across.count {
                assert_eq!(pooled[r * across.count + c], turned[c * down.count + r]);
            }
        }
        let (i, j) = (down.of(31), across.of(44));
        let found = by_row.loudest(down.cells(i, rows), across.cells(j, cols));
        assert_eq!(found, (31, 44));
    }

    #[test]
    fn pooling_does_not_hide_a_nan() {
        let values = [1.0, f32::NAN, 5.0, 2.0];
        let grid = Grid::row_major(&values, 1, 4);
        let one = Bins::covering(0.0, 1.0, 1);
        for pooling in [Pooling::Loudest, Pooling::Mean] {
            assert!(grid.pooled(one, Bins::covering(0.0, 4.0, 1), pooling)[0].is_nan());
        }
        assert_eq!(grid.loudest(0..1, 0..4), (0, 1));
    }

    #[test]
    fn a_mean_counts_the_cells_there_are() {
        let values = [1.0, 2.0, 6.0, 3.0, 4.0, 8.0];
        let grid = Grid::row_major(&values, 2, 3);
        let (down, across) = (Bins::covering(0.0, 2.0, 1), Bins::covering(0.0, 3.0, 2));
        assert_eq!(grid.pooled(down, across, Pooling::Mean), [2.5, 7.0]);
    }
}
