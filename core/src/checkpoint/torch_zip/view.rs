//! The view of a storage that a tensor is: offset, size, stride.

use super::{Damage, wrong};

/// A box of elements: the one at index `i` is element `offset + Σ i·stride` of the storage.
pub(super) struct View {
    pub offset: usize,
    pub size: Vec<usize>,
    stride: Vec<usize>,
    pub elements: usize,
}

impl View {
    /// A view that lies in a storage of so many elements.
    pub fn new(
        name: &str,
        offset: usize,
        size: Vec<usize>,
        stride: Vec<usize>,
        in_storage: usize,
    ) -> Result<Self, Damage> {
        if size.len() != stride.len() {
            let found = format!("of {} axes", stride.len());
            return Err(wrong(name, "the stride", found, "as many as the size has"));
        }
        let elements = size
            .iter()
            .try_fold(1_usize, |product, &axis| product.checked_mul(axis));
        let last = size
            .iter()
            .zip(&stride)
            .try_fold(offset, |last, (&axis, &step)| {
                last.checked_add(axis.saturating_sub(1).checked_mul(step)?)
            });
        let is_empty = size.contains(&0);
        match (elements, last) {
            (Some(elements), Some(last)) if last < in_storage => Ok(Self {
                offset,
                size,
                stride,
                elements,
            }),
            _ if is_empty && offset <= in_storage => Ok(Self {
                offset,
                size,
                stride,
                elements: 0,
            }),
            _ => Err(Damage::ViewOutside {
                tensor: name.into(),
                offset,
                size,
                stride,
                elements: in_storage,
            }),
        }
    }

    /// Whether the elements lie in order, without gaps. Axes of one element may have any stride.
    pub fn is_contiguous(&self) -> bool {
        let mut wanted = 1_usize;
        for (&axis, &step) in self.size.iter().zip(&self.stride).rev() {
            if axis > 1 && step != wanted {
                return self.elements == 0;
            }
            wanted = wanted.saturating_mul(axis);
        }
        true
    }

    /// Visits the elements by their place in the storage, the last axis fastest.
    pub fn for_each(&self, mut visit: impl FnMut(usize)) {
        let mut index = vec![0_usize; self.size.len()];
        for _ in 0..self.elements {
            // No more than the last element's place: no overflow.
            let steps = index.iter().zip(&self.stride).map(|(&i, &step)| i * step);
            visit(self.offset + steps.sum::<usize>());
            for (i, &axis) in index.iter_mut().zip(&self.size).rev() {
                *i += 1;
                if *i < axis {
                    break;
                }
                *i = 0;
            }
        }
    }
}
