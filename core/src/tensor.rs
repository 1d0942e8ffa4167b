//! One named array of a checkpoint: its bytes where they lie (file mapping, program image), its shape, its dtype.

mod int8;
mod together;

use std::borrow::Cow;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use memmap2::Mmap;
use thiserror::Error;

pub(crate) use int8::quantize;
pub use int8::{BLOCK as INT8_BLOCK, Int8};

/// Number format of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dtype {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
    /// IEEE 754 binary64, rounded to f32 when it is read.
    F64,
    /// Whole numbers from −127 to 127 with a scale for each block of a row; no checkpoint holds it, a model is brought to it on request.
    Int8,
}

impl Dtype {
    /// Bytes an element takes, the scales of [`Dtype::Int8`] not counted.
    pub fn size(self) -> usize {
        match self {
            Dtype::Int8 => 1,
            Dtype::F32 => 4,
            Dtype::F16 | Dtype::Bf16 => 2,
            Dtype::F64 => 8,
        }
    }

    /// Bytes a tensor of this shape takes; `None` where they cannot be counted.
    pub(crate) fn bytes_of(self, shape: &[usize]) -> Option<usize> {
        if self == Dtype::Int8 {
            return int8::bytes_of(shape);
        }
        let mut axes = shape.iter();
        axes.try_fold(self.size(), |size, &axis| size.checked_mul(axis))
    }

    /// The name safetensors files use.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "F32",
            Dtype::F16 => "F16",
            Dtype::Bf16 => "BF16",
            Dtype::F64 => "F64",
            Dtype::Int8 => "int8",
        }
    }
}

/// The elements of a matrix as they are stored, row by row, where they can be read without a copy.
#[derive(Clone, Copy)]
pub enum Numbers<'a> {
    /// One by one.
    F32(&'a [f32]),
    /// Two in a word, the first in its lower half.
    F16(&'a [u32]),
    /// Two in a word, the first in its lower half.
    Bf16(&'a [u32]),
    /// Four in a word, and the scales.
    Int8(Int8<'a>),
}

impl<'a> Numbers<'a> {
    /// Rows `rows` of a matrix whose rows are `width` long.
    pub fn rows(&self, rows: Range<usize>, width: usize) -> Numbers<'a> {
        let part = |of: usize| rows.start * width / of..rows.end * width / of;
        match self {
            Numbers::F32(values) => Numbers::F32(&values[part(1)]),
            Numbers::F16(words) => Numbers::F16(&words[part(2)]),
            Numbers::Bf16(words) => Numbers::Bf16(&words[part(2)]),
            Numbers::Int8(int8) => Numbers::Int8(int8.rows(rows, width)),
        }
    }

    /// All elements as f32, into as many places. Inlined, so that it is compiled for the instructions of its caller.
    #[inline(always)]
    pub fn widen(&self, out: &mut [f32], width: usize) {
        match self {
            Numbers::F32(values) => out.copy_from_slice(values),
            Numbers::F16(words) => {
                let halves: &[f16] = bytemuck::cast_slice(words);
                halves.convert_to_f32_slice(out);
            }
            Numbers::Bf16(words) => {
                let halves: &[u16] = bytemuck::cast_slice(words);
                for (out, half) in out.iter_mut().zip(halves) {
                    *out = f32::from_bits(u32::from(*half) << 16);
                }
            }
            Numbers::Int8(int8) => int8.widen(out, width),
        }
    }
}

/// Where the bytes of a checkpoint lie. Cloning shares them.
#[derive(Clone)]
pub enum Bytes {
    /// Compiled into the program.
    Static(&'static [u8]),
    /// A file mapped into memory, read as it is touched.
    Mapped(Arc<Mmap>),
    /// Read or built in memory.
    Owned(Arc<[u8]>),
}

impl Bytes {
    /// The bytes themselves.
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Bytes::Static(bytes) => bytes,
            Bytes::Mapped(map) => map,
            Bytes::Owned(bytes) => bytes,
        }
    }
}

/// A range that does not hold the shape it was said to hold.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TensorError {
    /// The product of the shape, or its bytes, does not fit a `usize`.
    #[error("the shape {shape:?} has more elements than can be counted")]
    TooLarge {
        /// The shape in question.
        shape: Vec<usize>,
    },
    /// The bytes are fewer or more than the shape asks for.
    #[error("shape {shape:?} in {dtype} takes {wanted} bytes, found {found}")]
    Length {
        /// The shape in question.
        shape: Vec<usize>,
        /// The dtype in question.
        dtype: &'static str,
        /// Bytes the shape takes.
        wanted: usize,
        /// Bytes there are.
        found: usize,
    },
}

/// No memory for the elements of a tensor as f32.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("there is no memory for {bytes} bytes of weights widened to f32")]
pub struct WidenError {
    /// Bytes they take.
    pub bytes: usize,
}

/// A read-only tensor, row-major.
///
/// f32 tensors are used where they lie; halves are widened once, when first used as f32, and kept. Cloning shares both.
#[derive(Clone)]
pub struct Tensor {
    shape: Vec<usize>,
    dtype: Dtype,
    bytes: Bytes,
    range: Range<usize>,
    widened: Arc<OnceLock<Vec<f32>>>,
}

impl Tensor {
    /// A tensor over `range` of `bytes`.
    ///
    /// # Errors
    /// When the range does not hold exactly the shape's elements.
    pub fn new(
        shape: Vec<usize>,
        dtype: Dtype,
        bytes: Bytes,
        range: Range<usize>,
    ) -> Result<Self, TensorError> {
        let wanted = dtype
            .bytes_of(&shape)
            .ok_or_else(|| TensorError::TooLarge {
                shape: shape.clone(),
            })?;
        let found = bytes.as_slice().get(range.clone()).map_or(0, <[u8]>::len);
        if wanted != found {
            return Err(TensorError::Length {
                shape,
                dtype: dtype.name(),
                wanted,
                found,
            });
        }
        Ok(Self {
            shape,
            dtype,
            bytes,
            range,
            widened: Arc::default(),
        })
    }

    /// An f32 tensor built in memory, for tests and synthetic models.
    ///
    /// # Errors
    /// When `values` is not exactly the shape's elements.
    pub fn from_f32(shape: Vec<usize>, values: &[f32]) -> Result<Self, TensorError> {
        let bytes: Arc<[u8]> = bytemuck::cast_slice(values).into();
        let range = 0..bytes.len();
        Self::new(shape, Dtype::F32, Bytes::Owned(bytes), range)
    }

    /// Stands for a tensor that is not there while the rest of a checkpoint is looked through; never part of a model.
    pub fn placeholder() -> Self {
        Self {
            shape: vec![0],
            dtype: Dtype::F32,
            bytes: Bytes::Static(&[]),
            range: 0..0,
            widened: Arc::default(),
        }
    }

    /// Axis lengths, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number format in the file.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self.dtype {
            Dtype::Int8 => self.shape.iter().product(),
            _ => self.range.len() / self.dtype.size(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Bytes in the file.
    pub fn byte_len(&self) -> usize {
        self.range.len()
    }

    /// The stored bytes, little-endian.
    pub fn raw(&self) -> &[u8] {
        self.bytes.as_slice().get(self.range.clone()).unwrap_or(&[])
    }

    /// The elements as f32.
    ///
    /// No copy for an f32 tensor at an address f32 can be read from (writers of safetensors align to 8 bytes);
    /// halves, and f32 at an odd address, are converted on first use and kept. Where memory may be short,
    /// [`Tensor::try_widen`] goes first: a conversion here that finds none ends the program.
    pub fn as_f32(&self) -> &[f32] {
        if let Some(values) = self.in_place() {
            return values;
        }
        self.widened.get_or_init(|| self.iter_f32().collect())
    }

    /// Does now what [`Tensor::as_f32`] would do on first use; nothing if it is done, or if there is nothing to do.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn try_widen(&self) -> Result<(), WidenError> {
        if self.widened.get().is_some() || self.in_place().is_some() {
            return Ok(());
        }
        let mut values = Vec::new();
        values
            .try_reserve_exact(self.len())
            .map_err(|_| WidenError {
                bytes: self.len().saturating_mul(size_of::<f32>()),
            })?;
        values.extend(self.iter_f32());
        // Another thread may have been quicker, with the same values.
        let _ = self.widened.set(values);
        Ok(())
    }

    /// The elements as they are stored, for products that read them so. Where a row is no whole number of words, or f64, or the
    /// bytes lie at an odd address, they are those of [`Tensor::as_f32`].
    pub fn numbers(&self) -> Numbers<'_> {
        self.stored().unwrap_or_else(|| Numbers::F32(self.as_f32()))
    }

    /// Whether [`Tensor::numbers`] needs no copy.
    pub fn is_read_in_place(&self) -> bool {
        self.stored().is_some()
    }

    fn stored(&self) -> Option<Numbers<'_>> {
        let width = *self.shape.last()?;
        let words = |each: usize| {
            let whole = self.shape.len() == 2 && width.is_multiple_of(each);
            whole.then(|| bytemuck::try_cast_slice(self.raw()).ok())?
        };
        match self.dtype {
            Dtype::F32 => self.in_place().map(Numbers::F32),
            Dtype::F16 => words(2).map(Numbers::F16),
            Dtype::Bf16 => words(2).map(Numbers::Bf16),
            Dtype::F64 => None,
            Dtype::Int8 => Int8::new(words(4)?, self.len()).map(Numbers::Int8),
        }
    }

    /// Row `index` of a matrix as f32: where it lies, or a copy.
    pub fn row(&self, index: usize) -> Cow<'_, [f32]> {
        let width = self.shape.last().copied().unwrap_or(0);
        match self.numbers() {
            Numbers::F32(values) => Cow::Borrowed(&values[index * width..][..width]),
            stored => {
                let mut out = vec![0.0; width];
                stored.rows(index..index + 1, width).widen(&mut out, width);
                Cow::Owned(out)
            }
        }
    }

    /// The elements where they lie, if they can be read there as f32.
    fn in_place(&self) -> Option<&[f32]> {
        if self.dtype != Dtype::F32 {
            return None;
        }
        bytemuck::try_cast_slice(self.raw()).ok()
    }

    /// Bytes held beside the stored ones: what widening has cost so far.
    pub fn widened_bytes(&self) -> usize {
        self.widened.get().map_or(0, |values| values.len() * 4)
    }

    /// The elements one by one, widened on the way: nothing is kept.
    pub fn iter_f32(&self) -> Box<dyn Iterator<Item = f32> + '_> {
        let raw = self.raw();
        match self.dtype {
            Dtype::F32 => Box::new(
                raw.as_chunks::<4>()
                    .0
                    .iter()
                    .map(|b| f32::from_le_bytes(*b)),
            ),
            Dtype::F16 => Box::new(
                raw.as_chunks::<2>()
                    .0
                    .iter()
                    .map(|b| f16::from_le_bytes(*b).to_f32()),
            ),
            Dtype::Bf16 => Box::new(
                raw.as_chunks::<2>()
                    .0
                    .iter()
                    .map(|b| bf16::from_le_bytes(*b).to_f32()),
            ),
            Dtype::F64 => Box::new(
                raw.as_chunks::<8>()
                    .0
                    .iter()
                    .map(|b| f64::from_le_bytes(*b) as f32),
            ),
            Dtype::Int8 => {
                let width = self.shape.last().copied().unwrap_or(0);
                int8::values(raw, self.len(), width)
            }
        }
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor {{ {} {:?} }}", self.dtype.name(), self.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(dtype: Dtype, bytes: &'static [u8], range: Range<usize>) -> Tensor {
        let shape = vec![range.len() / dtype.size()];
        Tensor::new(shape, dtype, Bytes::Static(bytes), range).unwrap()
    }

    #[test]
    fn widening_ahead_is_what_use_would_do() {
        // 1 and -2 in BF16.
        let halves = tensor(Dtype::Bf16, &[0x80, 0x3f, 0x00, 0xc0], 0..4);
        for _ in 0..2 {
            halves.try_widen().unwrap();
            assert_eq!(halves.widened_bytes(), 8);
        }
        assert_eq!(halves.as_f32(), [1.0, -2.0]);

        static WHOLE: [u64; 2] = [0; 2];
        let bytes: &'static [u8] = bytemuck::cast_slice(&WHOLE);
        for (range, widened) in [(0..8, 0), (1..9, 8)] {
            let tensor = tensor(Dtype::F32, bytes, range);
            tensor.try_widen().unwrap();
            assert_eq!(tensor.widened_bytes(), widened, "only where f32 cannot lie");
            assert_eq!(tensor.as_f32(), [0.0, 0.0]);
        }
    }

    #[test]
    fn memory_that_is_short_is_an_error() {
        // No machine has it: the range is a lie that only a test can tell.
        let range = 0..usize::MAX / 4;
        let halves = Tensor {
            shape: vec![range.len() / 2],
            dtype: Dtype::F16,
            bytes: Bytes::Static(&[]),
            range,
            widened: Arc::default(),
        };
        let error = halves.try_widen().unwrap_err();
        assert_eq!(error.bytes, halves.len() * 4);
        assert!(error.to_string().contains("no memory for"), "{error}");
        assert_eq!(halves.widened_bytes(), 0);
    }
}
