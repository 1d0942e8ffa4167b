//! The families this program runs: for each, what its configuration means, which tensors it has, and how they make a model.
//!
//! A new family is an entry of [`FAMILIES`] and a forward pass; nothing else asks for a `model_type` or a tensor's name.

use std::collections::BTreeMap;

use super::config::{Config, ConfigError, Keys, MAX_LAYERS, MAX_SIZE, MambaDims, derived_size};
use super::{Layer, MambaMixer};
use crate::tensor::Tensor;

/// A family of models: one forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// Mamba-1, the selective state-space model (`MambaForCausalLM`).
    Mamba,
}

impl Family {
    /// The family's entry in the table.
    pub fn entry(self) -> &'static FamilyEntry {
        match self {
            Family::Mamba => &MAMBA,
        }
    }
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
    pub(super) config: fn(&Keys) -> Result<Config, ConfigError>,
    embedding: Row,
    final_norm: Row,
    head: Row,
    layer: &'static [Row],
    build_layer: fn(&mut LayerParts<'_>) -> Result<Layer, MissingTensor>,
}

/// Every family that can be run, in the order errors list them.
pub const FAMILIES: &[FamilyEntry] = &[MAMBA];

/// The `model_type`s that can be run, for a reader.
pub fn supported() -> String {
    FAMILIES
        .iter()
        .map(|entry| entry.model_type)
        .collect::<Vec<_>>()
        .join(", ")
}

/// When a checkpoint has a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Always.
    Required,
    /// One of the embedding and the head may be missing: the other then serves for both.
    TiedPair,
}

/// A tensor a checkpoint of a given configuration has to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its name in Hugging Face files.
    pub name: String,
    /// The name the original code gave it, where that differs.
    pub alias: Option<&'static str>,
    /// Axis lengths, outermost first.
    pub shape: Vec<usize>,
    /// Whether it may be missing.
    pub need: Need,
}

/// A tensor that is not among those given. Checking a checkpoint against [`FamilyEntry::tensors`] rules it out.
#[derive(Debug, PartialEq, Eq)]
pub struct MissingTensor(pub String);

/// The parts of a model that come from tensors.
#[derive(Debug)]
pub struct Parts {
    /// `[v, e]`.
    pub embedding: Tensor,
    /// One a block, in order.
    pub layers: Vec<Layer>,
    /// `[e]`.
    pub final_norm: Tensor,
}

/// One tensor of a family: its name (behind the layer's prefix, for those of a layer), shape, and when there is one.
#[derive(Debug)]
struct Row {
    name: &'static str,
    alias: Option<&'static str>,
    shape: fn(&Config) -> Vec<usize>,
    present: fn(&Config) -> bool,
}

impl Row {
    const fn new(name: &'static str, shape: fn(&Config) -> Vec<usize>) -> Self {
        Self {
            name,
            alias: None,
            shape,
            present: |_| true,
        }
    }

    const fn only_if(mut self, present: fn(&Config) -> bool) -> Self {
        self.present = present;
        self
    }

    const fn or_named(mut self, alias: &'static str) -> Self {
        self.alias = Some(alias);
        self
    }

    fn spec(&self, prefix: &str, config: &Config, need: Need) -> TensorSpec {
        TensorSpec {
            name: format!("{prefix}{}", self.name),
            alias: self.alias,
            shape: (self.shape)(config),
            need,
        }
    }
}

impl FamilyEntry {
    /// Name of the embedding in Hugging Face files.
    pub fn embedding_name(&self) -> &'static str {
        self.embedding.name
    }

    /// Name of the head.
    pub fn head_name(&self) -> &'static str {
        self.head.name
    }

    /// Every tensor a checkpoint of this configuration holds, the outer ones first, then block by block.
    pub fn tensors<'a>(&'a self, config: &'a Config) -> impl Iterator<Item = TensorSpec> + 'a {
        let outer = [
            self.embedding.spec("", config, Need::TiedPair),
            self.final_norm.spec("", config, Need::Required),
            self.head.spec("", config, Need::TiedPair),
        ];
        let layers = (0..config.n_layers).flat_map(move |i| {
            let rows = self.layer.iter().filter(move |row| (row.present)(config));
            rows.map(move |row| row.spec(&layer_prefix(i), config, Need::Required))
        });
        outer.into_iter().chain(layers)
    }

    /// Puts checked tensors, by their Hugging Face names, where the forward pass looks for them; the head stays behind.
    ///
    /// # Errors
    /// When one of [`Self::tensors`] is not there.
    pub fn build(
        &self,
        config: &Config,
        tensors: &mut BTreeMap<String, Tensor>,
    ) -> Result<Parts, MissingTensor> {
        let embedding = take(tensors, self.embedding.name.into())?;
        let final_norm = take(tensors, self.final_norm.name.into())?;
        let layers = (0..config.n_layers)
            .map(|i| {
                (self.build_layer)(&mut LayerParts {
                    prefix: layer_prefix(i),
                    config,
                    tensors,
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Parts {
            embedding,
            layers,
            final_norm,
        })
    }
}

fn layer_prefix(i: usize) -> String {
    format!("backbone.layers.{i}.")
}

fn take(tensors: &mut BTreeMap<String, Tensor>, name: String) -> Result<Tensor, MissingTensor> {
    tensors.remove(&name).ok_or(MissingTensor(name))
}

/// The tensors of one block.
struct LayerParts<'a> {
    prefix: String,
    config: &'a Config,
    tensors: &'a mut BTreeMap<String, Tensor>,
}

impl LayerParts<'_> {
    fn take(&mut self, row: &Row) -> Result<Tensor, MissingTensor> {
        take(self.tensors, format!("{}{}", self.prefix, row.name))
    }

    fn take_if_present(&mut self, row: &Row) -> Result<Option<Tensor>, MissingTensor> {
        (row.present)(self.config)
            .then(|| self.take(row))
            .transpose()
    }
}

// Mamba-1. Names and shapes as in transformers' `MambaForCausalLM`; only the embedding is named otherwise in the original code.

const MAMBA: FamilyEntry = FamilyEntry {
    family: Family::Mamba,
    title: "Mamba",
    model_type: "mamba",
    architecture: "MambaForCausalLM",
    config: mamba_config,
    embedding: Row::new("backbone.embeddings.weight", |c| {
        vec![c.vocab_size, c.d_model]
    })
    .or_named("backbone.embedding.weight"),
    final_norm: Row::new("backbone.norm_f.weight", |c| vec![c.d_model]),
    head: Row::new("lm_head.weight", |c| vec![c.vocab_size, c.d_model]),
    layer: &[
        NORM,
        IN_PROJ,
        IN_PROJ_BIAS,
        CONV,
        CONV_BIAS,
        X_PROJ,
        DT_PROJ,
        DT_BIAS,
        A_LOG,
        D_SKIP,
        OUT_PROJ,
        OUT_PROJ_BIAS,
    ],
    build_layer: mamba_layer,
};

const NORM: Row = Row::new("norm.weight", |c| vec![c.d_model]);
const IN_PROJ: Row = Row::new("mixer.in_proj.weight", |c| {
    vec![2 * c.mamba.d_inner, c.d_model]
});
const IN_PROJ_BIAS: Row =
    Row::new("mixer.in_proj.bias", |c| vec![2 * c.mamba.d_inner]).only_if(|c| c.mamba.proj_bias);
const CONV: Row = Row::new("mixer.conv1d.weight", |c| {
    vec![c.mamba.d_inner, 1, c.mamba.d_conv]
});
const CONV_BIAS: Row =
    Row::new("mixer.conv1d.bias", |c| vec![c.mamba.d_inner]).only_if(|c| c.mamba.conv_bias);
const X_PROJ: Row = Row::new("mixer.x_proj.weight", |c| {
    vec![c.mamba.dt_rank + 2 * c.mamba.d_state, c.mamba.d_inner]
});
const DT_PROJ: Row = Row::new("mixer.dt_proj.weight", |c| {
    vec![c.mamba.d_inner, c.mamba.dt_rank]
});
const DT_BIAS: Row = Row::new("mixer.dt_proj.bias", |c| vec![c.mamba.d_inner]);
const A_LOG: Row = Row::new("mixer.A_log", |c| vec![c.mamba.d_inner, c.mamba.d_state]);
const D_SKIP: Row = Row::new("mixer.D", |c| vec![c.mamba.d_inner]);
const OUT_PROJ: Row = Row::new("mixer.out_proj.weight", |c| {
    vec![c.d_model, c.mamba.d_inner]
});
const OUT_PROJ_BIAS: Row =
    Row::new("mixer.out_proj.bias", |c| vec![c.d_model]).only_if(|c| c.mamba.proj_bias);

/// Keys and defaults of transformers' `MambaConfig`.
fn mamba_config(keys: &Keys) -> Result<Config, ConfigError> {
    keys.one_of("hidden_act", &["silu", "swish"])?;
    let d_model = keys.size("hidden_size", 768, MAX_SIZE)?;
    let expand = keys.positive("expand", 2.0, MAX_SIZE as f64)?;
    let d_inner = match keys.optional_size("intermediate_size", MAX_SIZE)? {
        Some(written) => written,
        None => derived_size(
            "intermediate_size",
            (expand * d_model as f64).trunc(),
            "`expand` times `hidden_size`",
        )?,
    };
    Ok(Config {
        family: Family::Mamba,
        vocab_size: keys.size("vocab_size", 50280, MAX_SIZE)?,
        d_model,
        n_layers: keys.size("num_hidden_layers", 32, MAX_LAYERS)?,
        norm_eps: keys.positive("layer_norm_epsilon", 1e-5, 1.0)? as f32,
        tied: keys.flag("tie_word_embeddings", true)?,
        eos: keys.ids("eos_token_id", 0)?,
        mamba: MambaDims {
            d_inner,
            d_state: keys.size("state_size", 16, MAX_SIZE)?,
            d_conv: keys.size("conv_kernel", 4, MAX_SIZE)?,
            dt_rank: keys.auto_size("time_step_rank", d_model.div_ceil(16), MAX_SIZE)?,
            proj_bias: keys.flag("use_bias", false)?,
            conv_bias: keys.flag("use_conv_bias", true)?,
        },
    })
}

fn mamba_layer(parts: &mut LayerParts<'_>) -> Result<Layer, MissingTensor> {
    Ok(Layer {
        norm: parts.take(&NORM)?,
        mixer: MambaMixer {
            in_proj: parts.take(&IN_PROJ)?,
            in_proj_bias: parts.take_if_present(&IN_PROJ_BIAS)?,
            conv: parts.take(&CONV)?,
            conv_bias: parts.take_if_present(&CONV_BIAS)?,
            x_proj: parts.take(&X_PROJ)?,
            dt_proj: parts.take(&DT_PROJ)?,
            dt_bias: parts.take(&DT_BIAS)?,
            a_log: parts.take(&A_LOG)?,
            d_skip: parts.take(&D_SKIP)?,
            out_proj: parts.take(&OUT_PROJ)?,
            out_proj_bias: parts.take_if_present(&OUT_PROJ_BIAS)?,
        },
    })
}
