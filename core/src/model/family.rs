//! How a family's entry in [`super::table`] becomes the tensors of a model.

use std::ops::Range;

use super::config::{Config, Reader};
use super::dims::BlockDims;
use super::table;
use super::{FeedForward, Layer, Mlp};
use crate::tensor::Tensor;

/// A family of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Mamba-1, the selective state-space model (`MambaForCausalLM`).
    Mamba,
    /// Mamba-1 with norms of dt, B and C inside the mixer (`FalconMambaForCausalLM`).
    FalconMamba,
    /// Mamba-2, state-space duality (`Mamba2ForCausalLM`).
    Mamba2,
    /// Mamba and attention in turns, with experts (`JambaForCausalLM`).
    Jamba,
    /// The Transformer of today (`LlamaForCausalLM`).
    Llama,
}

/// What is known of a family.
#[derive(Debug)]
pub struct FamilyEntry {
    /// The family.
    pub family: Family,
    /// Its name for a reader.
    pub title: &'static str,
    /// The value of `model_type` in `config.json`.
    pub model_type: &'static str,
    /// The class named in `architectures`.
    pub architecture: &'static str,
    pub(super) config: Reader,
    pub(super) names: Names,
    pub(super) layer: fn(&Config, &BlockDims, &mut LayerShelf<'_>) -> Result<Layer, Stop>,
}

/// Names of the tensors outside of the blocks, and what those inside begin with.
#[derive(Debug)]
pub(super) struct Names {
    pub(super) embedding: &'static str,
    /// The name the original code gave the embedding, where that differs.
    pub(super) embedding_alias: Option<&'static str>,
    pub(super) final_norm: &'static str,
    pub(super) head: &'static str,
    pub(super) layers: &'static str,
}

/// A tensor a checkpoint of a given configuration has to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name in Hugging Face files.
    pub name: String,
    /// Where else it may be.
    pub alias: Option<Alias>,
    /// Axis lengths, outermost first.
    pub shape: Vec<usize>,
}

/// Another place for a tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alias {
    /// The same tensor under another name.
    Named(&'static str),
    /// Rows of one entry of a larger tensor, as transformers 5 fuses experts.
    PartOf {
        /// Name of the larger tensor.
        name: String,
        /// Its shape, three axes.
        shape: [usize; 3],
        /// Which entry of its first axis.
        index: usize,
        /// Which rows of that entry.
        rows: Range<usize>,
    },
}

/// Where the tensors of a model come from. One that is missing or of another shape is noted there and answered with
/// [`Tensor::placeholder`], so that all that is wrong can be said at once.
pub trait Shelf {
    /// The tensor of that description.
    ///
    /// # Errors
    /// When so much is wrong that going on makes no sense.
    fn take(&mut self, spec: TensorSpec) -> Result<Tensor, Stop>;

    /// The same, where there may be none.
    ///
    /// # Errors
    /// As [`Self::take`].
    fn find(&mut self, spec: TensorSpec) -> Result<Option<Tensor>, Stop>;
}

/// A sign to stop building: what is wrong is known to the shelf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop;

/// The parts of a model that come from tensors.
#[derive(Debug)]
pub struct Parts {
    /// `[v, e]`; one of embedding and head may be missing, the other then serves for both.
    pub embedding: Option<Tensor>,
    /// One a block, in order.
    pub layers: Vec<Layer>,
    /// `[e]`.
    pub final_norm: Tensor,
    /// `[v, e]`.
    pub head: Option<Tensor>,
}

impl Family {
    /// The family's entry in the table.
    pub fn entry(self) -> &'static FamilyEntry {
        // A test finds every family's own entry.
        let own = table::FAMILIES.iter().find(|entry| entry.family == self);
        own.unwrap_or(&table::FAMILIES[0])
    }
}

impl FamilyEntry {
    /// Name of the embedding in Hugging Face files.
    pub fn embedding_name(&self) -> &'static str {
        self.names.embedding
    }

    /// Name of the head.
    pub fn head_name(&self) -> &'static str {
        self.names.head
    }

    /// Takes every tensor a checkpoint of this configuration holds to where the forward pass looks for it.
    ///
    /// # Errors
    /// When the shelf says so.
    pub fn build(&self, config: &Config, shelf: &mut dyn Shelf) -> Result<Parts, Stop> {
        let outer = |name: &str, alias: Option<&'static str>| TensorSpec {
            name: name.to_owned(),
            alias: alias.map(Alias::Named),
            shape: vec![config.vocab_size, config.d_model],
        };
        let embedding = shelf.find(outer(self.names.embedding, self.names.embedding_alias))?;
        let head = shelf.find(outer(self.names.head, None))?;
        let final_norm = shelf.take(TensorSpec {
            name: self.names.final_norm.to_owned(),
            alias: None,
            shape: vec![config.d_model],
        })?;
        let mut layers = Vec::new();
        for (i, block) in config.blocks.iter().enumerate() {
            let prefix = format!("{}.{i}.", self.names.layers);
            layers.push((self.layer)(
                config,
                block,
                &mut LayerShelf { prefix, shelf },
            )?);
        }
        Ok(Parts {
            embedding,
            layers,
            final_norm,
            head,
        })
    }

    /// Every tensor a checkpoint of this configuration holds: embedding, head, last norm, then block by block.
    pub fn tensors(&self, config: &Config) -> Vec<TensorSpec> {
        struct Listing(Vec<TensorSpec>);
        impl Shelf for Listing {
            fn take(&mut self, spec: TensorSpec) -> Result<Tensor, Stop> {
                self.0.push(spec);
                Ok(Tensor::placeholder())
            }
            fn find(&mut self, spec: TensorSpec) -> Result<Option<Tensor>, Stop> {
                self.take(spec).map(Some)
            }
        }
        let mut listing = Listing(Vec::new());
        // A listing never stops.
        let _ = self.build(config, &mut listing);
        listing.0
    }
}

/// The tensors of one block.
pub(super) struct LayerShelf<'a> {
    prefix: String,
    shelf: &'a mut dyn Shelf,
}

impl LayerShelf<'_> {
    pub(super) fn take(&mut self, name: &str, shape: &[usize]) -> Result<Tensor, Stop> {
        self.shelf.take(self.spec(name, shape))
    }

    pub(super) fn take_if(
        &mut self,
        present: bool,
        name: &str,
        shape: &[usize],
    ) -> Result<Option<Tensor>, Stop> {
        present.then(|| self.take(name, shape)).transpose()
    }

    fn spec(&self, name: &str, shape: &[usize]) -> TensorSpec {
        TensorSpec {
            name: format!("{}{name}", self.prefix),
            alias: None,
            shape: shape.to_vec(),
        }
    }

    /// A SwiGLU network `[e]` → `[width]` → `[e]` under `name`.
    pub(super) fn mlp(
        &mut self,
        name: &str,
        d_model: usize,
        width: usize,
        bias: bool,
    ) -> Result<Mlp, Stop> {
        let mut half = |part: &str, shape: [usize; 2]| -> Result<_, Stop> {
            let weight = self.take(&format!("{name}.{part}.weight"), &shape)?;
            let bias = self.take_if(bias, &format!("{name}.{part}.bias"), &shape[..1])?;
            Ok((weight, bias))
        };
        let (gate, gate_bias) = half("gate_proj", [width, d_model])?;
        let (up, up_bias) = half("up_proj", [width, d_model])?;
        let (down, down_bias) = half("down_proj", [d_model, width])?;
        Ok(Mlp {
            gate,
            gate_bias,
            up,
            up_bias,
            down,
            down_bias,
        })
    }

    /// `count` experts and their router under `name`: a name an expert, or all in two tensors as transformers 5 holds them.
    pub(super) fn experts(
        &mut self,
        name: &str,
        d_model: usize,
        width: usize,
        count: usize,
    ) -> Result<FeedForward, Stop> {
        let router = self.take(&format!("{name}.router.weight"), &[count, d_model])?;
        let gate_up = (
            format!("{name}.experts.gate_up_proj"),
            [count, 2 * width, d_model],
        );
        let down = (format!("{name}.experts.down_proj"), [count, d_model, width]);
        let mut experts = Vec::new();
        for index in 0..count {
            let mut part =
                |part: &str, fused: &(String, [usize; 3]), rows: Range<usize>| -> Result<_, Stop> {
                    let shape = [rows.len(), fused.1[2]];
                    let mut spec =
                        self.spec(&format!("{name}.experts.{index}.{part}.weight"), &shape);
                    spec.alias = Some(Alias::PartOf {
                        name: format!("{}{}", self.prefix, fused.0),
                        shape: fused.1,
                        index,
                        rows,
                    });
                    self.shelf.take(spec)
                };
            experts.push(Mlp {
                gate: part("gate_proj", &gate_up, 0..width)?,
                gate_bias: None,
                up: part("up_proj", &gate_up, width..2 * width)?,
                up_bias: None,
                down: part("down_proj", &down, 0..d_model)?,
                down_bias: None,
            });
        }
        Ok(FeedForward::Experts { router, experts })
    }
}
