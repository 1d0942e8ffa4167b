//! A model with its matrices in another number format.

use half::{bf16, f16};
use rayon::prelude::*;
use std::ops::ControlFlow;

use super::{FeedForward, Layer, Mixer, Mlp, Model};
use crate::tensor::{Bytes, Dtype, Tensor, TensorError, quantize};

/// Rows a task converts: as f32 they are held a moment.
const ROWS: usize = 64;

impl Model {
    /// Brings the matrices that tokens are multiplied with to `dtype`; A, convolutions, norms and biases stay as they are, and so
    /// does, for [`Dtype::Int8`], a matrix whose rows are no whole words.
    ///
    /// # Errors
    /// Never for a model whose shapes were checked.
    pub fn recast(self, dtype: Dtype) -> Result<Self, TensorError> {
        let (recast, _) = self.recast_unless(dtype, &mut |_, _| ControlFlow::Continue(()))?;
        Ok(recast)
    }

    /// The same; `progress` hears the matrices done and how many there are, and may stop it: the second value says whether it did.
    ///
    /// # Errors
    /// As [`Model::recast`].
    pub fn recast_unless(
        mut self,
        dtype: Dtype,
        progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<(Self, ControlFlow<()>), TensorError> {
        let changed = self.changed_by(dtype).into_iter();
        let flow = recast(changed.map(|(_, matrix)| matrix).collect(), dtype, progress)?;
        Ok((self, flow))
    }

    /// The matrices that tokens are multiplied with, each with a name of its own.
    pub(crate) fn matrices_mut(&mut self) -> Vec<(String, &mut Tensor)> {
        let mut all = vec![("embedding".to_owned(), &mut self.embedding)];
        all.extend(self.head.as_mut().map(|head| ("head".to_owned(), head)));
        for (i, layer) in self.layers.iter_mut().enumerate() {
            let matrices = layer.matrices_mut().into_iter();
            all.extend(matrices.map(|(name, matrix)| (format!("layers.{i}.{name}"), matrix)));
        }
        all
    }

    /// Those that [`Model::recast`] changes.
    pub(crate) fn changed_by(&mut self, dtype: Dtype) -> Vec<(String, &mut Tensor)> {
        let mut matrices = self.matrices_mut();
        matrices.retain(|(_, matrix)| is_changed(matrix, dtype));
        matrices
    }

    /// Bytes of the weights as they are stored.
    pub fn stored_bytes(&self) -> usize {
        self.tensors().map(Tensor::byte_len).sum()
    }

    /// Bytes the weights would take after [`Model::recast`].
    pub fn bytes_as(&self, dtype: Dtype) -> usize {
        // A copy shares the bytes.
        let mut copy = self.clone();
        let matrices = copy.matrices_mut();
        let before: usize = matrices.iter().map(|(_, matrix)| matrix.byte_len()).sum();
        let after = matrices.iter().map(|(_, matrix)| {
            let bytes = dtype.bytes_of(matrix.shape());
            bytes.unwrap_or(matrix.byte_len())
        });
        let after: usize = after.sum();
        self.stored_bytes() - before + after
    }

    /// Weights of the blocks' matrices, which every token is multiplied with.
    pub fn matrix_weights(&self) -> usize {
        let mut layers = self.layers.clone();
        let matrices = layers.iter_mut().flat_map(Layer::matrices_mut);
        matrices.map(|(_, matrix)| matrix.len()).sum()
    }

    /// The number format most of its weights are in.
    pub fn main_dtype(&self) -> Dtype {
        self.dtypes().first().copied().unwrap_or(Dtype::F32)
    }

    /// Bytes of the weights, and of what was widened of them.
    pub fn weight_bytes(&self) -> usize {
        self.tensors()
            .map(|tensor| tensor.byte_len() + tensor.widened_bytes())
            .sum()
    }
}

impl Layer {
    fn matrices_mut(&mut self) -> Vec<(String, &mut Tensor)> {
        let mixer = match &mut self.mixer {
            Mixer::Mamba(mixer) => vec![
                ("in_proj", &mut mixer.in_proj),
                ("x_proj", &mut mixer.x_proj),
                ("dt_proj", &mut mixer.dt_proj),
                ("out_proj", &mut mixer.out_proj),
            ],
            Mixer::Mamba2(mixer) => vec![
                ("in_proj", &mut mixer.in_proj),
                ("out_proj", &mut mixer.out_proj),
            ],
            Mixer::Attention(mixer) => vec![
                ("q_proj", &mut mixer.q_proj),
                ("k_proj", &mut mixer.k_proj),
                ("v_proj", &mut mixer.v_proj),
                ("o_proj", &mut mixer.o_proj),
            ],
        };
        let mixer = mixer.into_iter();
        let mut all: Vec<_> = mixer
            .map(|(name, matrix)| (name.to_owned(), matrix))
            .collect();
        match self.feed_forward.as_mut().map(|part| &mut part.network) {
            Some(FeedForward::Dense(mlp)) => all.extend(mlp.matrices_mut("mlp")),
            Some(FeedForward::Experts { router, experts }) => {
                all.push(("router".to_owned(), router));
                for (i, expert) in experts.iter_mut().enumerate() {
                    all.extend(expert.matrices_mut(&format!("experts.{i}")));
                }
            }
            None => {}
        }
        all
    }
}

impl Mlp {
    fn matrices_mut(&mut self, name: &str) -> [(String, &mut Tensor); 3] {
        [
            (format!("{name}.gate"), &mut self.gate),
            (format!("{name}.up"), &mut self.up),
            (format!("{name}.down"), &mut self.down),
        ]
    }
}

impl Tensor {
    /// A matrix in another number format; itself where it is in that, or cannot be.
    ///
    /// # Errors
    /// Never for a shape that was checked.
    pub fn recast(mut self, dtype: Dtype) -> Result<Self, TensorError> {
        if is_changed(&self, dtype) {
            let go_on = &mut |_, _| ControlFlow::Continue(());
            let _ = recast(vec![&mut self], dtype, go_on)?;
        }
        Ok(self)
    }

    /// Writes the elements in another number format, as many bytes as that takes.
    fn write_as(&self, dtype: Dtype, out: &mut [u8]) {
        let (rows, width) = (self.shape()[0], self.len() / self.shape()[0]);
        let (values, scales) = out.split_at_mut(self.len() * dtype.size());
        let scales_of_a_row = (scales.len() / rows).max(1);
        let mut scales: Vec<&mut [u8]> = scales.chunks_mut(ROWS * scales_of_a_row).collect();
        scales.resize_with(rows.div_ceil(ROWS), Default::default);
        let parts = values
            .par_chunks_mut(ROWS * width * dtype.size())
            .zip(scales);
        parts.enumerate().for_each(|(i, (out, scales))| {
            let first = i * ROWS;
            let rows = self.numbers().rows(first..(first + ROWS).min(rows), width);
            let mut wide = vec![0.0; out.len() / dtype.size()];
            rows.widen(&mut wide, width);
            write(&wide, dtype, width, out, scales);
        });
    }
}

/// Whether a matrix is in another number format, and can be in this one.
fn is_changed(matrix: &Tensor, dtype: Dtype) -> bool {
    dtype != matrix.dtype() && !matrix.is_empty() && dtype.bytes_of(matrix.shape()).is_some()
}

/// Brings matrices that this changes to a number format, all into the same room; none where `progress` stopped it.
fn recast(
    changed: Vec<&mut Tensor>,
    dtype: Dtype,
    progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, TensorError> {
    let lens = changed.iter().map(|matrix| dtype.bytes_of(matrix.shape()));
    let lens: Vec<usize> = lens.map(Option::unwrap_or_default).collect();
    let mut flow = ControlFlow::Continue(());
    let (bytes, ranges) = Bytes::together(&lens, |i, out| {
        if flow.is_continue() {
            flow = progress(i, lens.len());
        }
        if flow.is_continue() {
            changed[i].write_as(dtype, out);
        }
    });
    if flow.is_continue() {
        for (matrix, range) in changed.into_iter().zip(ranges) {
            *matrix = Tensor::new(matrix.shape().to_vec(), dtype, bytes.clone(), range)?;
        }
    }
    Ok(flow)
}

/// Values in a number format, little-endian.
fn write(values: &[f32], dtype: Dtype, width: usize, out: &mut [u8], scales: &mut [u8]) {
    fn each<const N: usize>(values: &[f32], out: &mut [u8], bytes: impl Fn(f32) -> [u8; N]) {
        for (out, value) in out.as_chunks_mut::<N>().0.iter_mut().zip(values) {
            *out = bytes(*value);
        }
    }
    match dtype {
        Dtype::F32 => each(values, out, f32::to_le_bytes),
        Dtype::F64 => each(values, out, |value| f64::from(value).to_le_bytes()),
        Dtype::F16 => each(values, out, |value| f16::from_f32(value).to_le_bytes()),
        Dtype::Bf16 => each(values, out, |value| bf16::from_f32(value).to_le_bytes()),
        Dtype::Int8 => quantize(values, width, out, scales),
    }
}
