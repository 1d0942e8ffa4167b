//! The one table of families: `model_type` → family → what its configuration means → names and shapes of its tensors.
//!
//! A new family of known mixers is a variant of [`Family`] and an entry of [`FAMILIES`]; nothing else asks for a `model_type` or a
//! tensor's name. A new mixer has its sizes in `dims.rs`, its weights in `mod.rs`, its probes in `trace.rs`, what it remembers in
//! `state.rs`, and a forward pass in each backend. Linear weights are stored `[out, in]`.

use super::config::{Config, ConfigError, Keys, MAX_EXPERTS, MAX_LAYERS, MAX_SIZE, derived_size};
use super::dims::{
    AttentionDims, BlockDims, FeedForwardDims, InnerNorm, Mamba2Dims, MambaDims, MixerDims,
};
use super::family::{Family, FamilyEntry, LayerShelf, Names, Stop};
use super::{
    AttentionMixer, FeedForward, FeedForwardPart, InnerNorms, Layer, Mamba2Mixer, MambaMixer, Mixer,
};

/// Every family that can be run, in the order errors list them.
pub const FAMILIES: &[FamilyEntry] = &[MAMBA, FALCON_MAMBA, MAMBA2, JAMBA, LLAMA];

/// The `model_type`s that can be run, for a reader.
pub(super) fn supported() -> String {
    let names: Vec<_> = FAMILIES.iter().map(|entry| entry.model_type).collect();
    format!(
        "{}, and the original state-spaces format of Mamba and Mamba-2",
        names.join(", ")
    )
}

// Names in the files of state-spaces models: the same in transformers and in the original code but for the embedding's.
const BACKBONE: Names = Names {
    embedding: "backbone.embeddings.weight",
    embedding_alias: Some("backbone.embedding.weight"),
    final_norm: "backbone.norm_f.weight",
    head: "lm_head.weight",
    layers: "backbone.layers",
};

const MAMBA: FamilyEntry = FamilyEntry {
    family: Family::Mamba,
    title: "Mamba",
    model_type: "mamba",
    architecture: "MambaForCausalLM",
    config: mamba_config,
    names: BACKBONE,
    layer: state_space_layer,
};

const FALCON_MAMBA: FamilyEntry = FamilyEntry {
    family: Family::FalconMamba,
    title: "FalconMamba",
    model_type: "falcon_mamba",
    architecture: "FalconMambaForCausalLM",
    config: falcon_mamba_config,
    names: BACKBONE,
    layer: state_space_layer,
};

const MAMBA2: FamilyEntry = FamilyEntry {
    family: Family::Mamba2,
    title: "Mamba-2",
    model_type: "mamba2",
    architecture: "Mamba2ForCausalLM",
    config: mamba2_config,
    names: BACKBONE,
    layer: state_space_layer,
};

const JAMBA: FamilyEntry = FamilyEntry {
    family: Family::Jamba,
    title: "Jamba",
    model_type: "jamba",
    architecture: "JambaForCausalLM",
    config: jamba_config,
    names: Names {
        embedding: "model.embed_tokens.weight",
        embedding_alias: None,
        final_norm: "model.final_layernorm.weight",
        head: "lm_head.weight",
        layers: "model.layers",
    },
    layer: jamba_layer,
};

const LLAMA: FamilyEntry = FamilyEntry {
    family: Family::Llama,
    title: "Transformer",
    model_type: "llama",
    architecture: "LlamaForCausalLM",
    config: llama_config,
    names: Names {
        embedding: "model.embed_tokens.weight",
        embedding_alias: None,
        final_norm: "model.norm.weight",
        head: "lm_head.weight",
        layers: "model.layers",
    },
    layer: llama_layer,
};

// Configurations. Keys and defaults are those of transformers' configuration classes, unless said otherwise.

fn mamba_config(keys: &Keys) -> Result<Config, ConfigError> {
    mamba_family_config(keys, Family::Mamba, None)
}

fn falcon_mamba_config(keys: &Keys) -> Result<Config, ConfigError> {
    let inner_norm = InnerNorm {
        eps: keys.positive("mixer_rms_eps", 1e-6, 1.0)? as f32,
        weighted: false,
    };
    mamba_family_config(keys, Family::FalconMamba, Some(inner_norm))
}

fn mamba_family_config(
    keys: &Keys,
    family: Family,
    inner_norm: Option<InnerNorm>,
) -> Result<Config, ConfigError> {
    keys.one_of("hidden_act", &["silu", "swish"])?;
    let d_model = keys.size("hidden_size", 768, MAX_SIZE)?;
    let d_inner = match keys.optional_size("intermediate_size", MAX_SIZE)? {
        Some(written) => written,
        None => expanded(keys, "expand", "intermediate_size", d_model)?,
    };
    let mixer = MixerDims::Mamba(MambaDims {
        d_inner,
        d_state: keys.size("state_size", 16, MAX_SIZE)?,
        d_conv: keys.size("conv_kernel", 4, MAX_SIZE)?,
        dt_rank: keys.auto_size("time_step_rank", d_model.div_ceil(16), MAX_SIZE)?,
        proj_bias: keys.flag("use_bias", false)?,
        conv_bias: keys.flag("use_conv_bias", true)?,
        inner_norm,
    });
    let n_layers = keys.size("num_hidden_layers", 32, MAX_LAYERS)?;
    Ok(Config {
        family,
        vocab_size: keys.size("vocab_size", 50280, MAX_SIZE)?,
        d_model,
        norm_eps: keys.positive("layer_norm_epsilon", 1e-5, 1.0)? as f32,
        tied: keys.flag("tie_word_embeddings", true)?,
        eos: keys.ids("eos_token_id", 0)?,
        blocks: vec![mixer_alone(mixer); n_layers],
    })
}

fn mamba2_config(keys: &Keys) -> Result<Config, ConfigError> {
    keys.one_of("hidden_act", &["silu", "swish"])?;
    let d_model = keys.size("hidden_size", 4096, MAX_SIZE)?;
    let heads = keys.size("num_heads", 128, MAX_SIZE)?;
    let head_dim = keys.size("head_dim", 64, MAX_SIZE)?;
    let d_inner = expanded(keys, "expand", "num_heads", d_model)?;
    if heads * head_dim != d_inner {
        return Err(keys.contradiction(
            "num_heads",
            heads,
            format!("{d_inner} / {head_dim}: `expand` times `hidden_size`, over `head_dim`"),
        ));
    }
    let groups = keys.size("n_groups", 8, MAX_SIZE)?;
    if !heads.is_multiple_of(groups) {
        let wanted = format!("a divisor of the {heads} heads");
        return Err(keys.contradiction("n_groups", groups, wanted));
    }
    let mixer = MixerDims::Mamba2(Mamba2Dims {
        heads,
        head_dim,
        d_state: keys.size("state_size", 128, MAX_SIZE)?,
        groups,
        d_conv: keys.size("conv_kernel", 4, MAX_SIZE)?,
        chunk: keys.size("chunk_size", 256, MAX_SIZE)?,
        dt_limit: keys.limits("time_step_limit", (0.0, f32::INFINITY))?,
        proj_bias: keys.flag("use_bias", false)?,
        conv_bias: keys.flag("use_conv_bias", true)?,
    });
    let n_layers = keys.size("num_hidden_layers", 64, MAX_LAYERS)?;
    Ok(Config {
        family: Family::Mamba2,
        vocab_size: keys.size("vocab_size", 32768, MAX_SIZE)?,
        d_model,
        norm_eps: keys.positive("layer_norm_epsilon", 1e-5, 1.0)? as f32,
        tied: keys.flag("tie_word_embeddings", false)?,
        eos: keys.ids("eos_token_id", 2)?,
        blocks: vec![mixer_alone(mixer); n_layers],
    })
}

fn jamba_config(keys: &Keys) -> Result<Config, ConfigError> {
    keys.one_of("hidden_act", &["silu", "swish"])?;
    let d_model = keys.size("hidden_size", 4096, MAX_SIZE)?;
    let norm_eps = keys.positive("rms_norm_eps", 1e-6, 1.0)? as f32;
    let attention = MixerDims::Attention(attention_heads(keys, d_model, Some(8))?);
    let mamba = MixerDims::Mamba(MambaDims {
        d_inner: expanded(keys, "mamba_expand", "mamba_expand", d_model)?,
        d_state: keys.size("mamba_d_state", 16, MAX_SIZE)?,
        d_conv: keys.size("mamba_d_conv", 4, MAX_SIZE)?,
        dt_rank: keys.auto_size("mamba_dt_rank", d_model.div_ceil(16), MAX_SIZE)?,
        proj_bias: keys.flag("mamba_proj_bias", false)?,
        conv_bias: keys.flag("mamba_conv_bias", true)?,
        inner_norm: Some(InnerNorm {
            eps: norm_eps,
            weighted: true,
        }),
    });
    let width = keys.size("intermediate_size", 14336, MAX_SIZE)?;
    let count = keys.size("num_experts", 16, MAX_EXPERTS)?;
    let top = keys.size("num_experts_per_tok", 2, MAX_EXPERTS)?;
    // With one expert there is no router and nothing to choose.
    if count > 1 && top > count {
        let wanted = format!("at most the {count} experts there are");
        return Err(keys.contradiction("num_experts_per_tok", top, wanted));
    }
    let every = |period, default_period, offset, default_offset| -> Result<_, ConfigError> {
        let period = keys.size(period, default_period, MAX_LAYERS)?;
        let offset = keys.count(offset, default_offset, MAX_LAYERS)?;
        Ok(move |i: usize| i % period == offset)
    };
    let is_attention = every("attn_layer_period", 8, "attn_layer_offset", 4)?;
    let has_experts = every("expert_layer_period", 2, "expert_layer_offset", 1)?;
    let block = |i| BlockDims {
        mixer: if is_attention(i) { attention } else { mamba },
        feed_forward: Some(if has_experts(i) && count > 1 {
            FeedForwardDims::Experts { width, count, top }
        } else {
            FeedForwardDims::Dense { width, bias: false }
        }),
    };
    let n_layers = keys.size("num_hidden_layers", 32, MAX_LAYERS)?;
    Ok(Config {
        family: Family::Jamba,
        vocab_size: keys.size("vocab_size", 65536, MAX_SIZE)?,
        d_model,
        norm_eps,
        tied: keys.flag("tie_word_embeddings", false)?,
        eos: keys.ids("eos_token_id", 2)?,
        blocks: (0..n_layers).map(block).collect(),
    })
}

fn llama_config(keys: &Keys) -> Result<Config, ConfigError> {
    keys.one_of("hidden_act", &["silu", "swish"])?;
    let d_model = keys.size("hidden_size", 4096, MAX_SIZE)?;
    let heads = attention_heads(keys, d_model, None)?;
    if !heads.head_dim.is_multiple_of(2) {
        let wanted = "an even number, for rotary positions turn pairs".to_owned();
        return Err(keys.contradiction("head_dim", heads.head_dim, wanted));
    }
    let mixer = MixerDims::Attention(AttentionDims {
        rope_theta: Some(rope_theta(keys)?),
        bias: keys.flag("attention_bias", false)?,
        ..heads
    });
    let block = BlockDims {
        mixer,
        feed_forward: Some(FeedForwardDims::Dense {
            width: keys.size("intermediate_size", 11008, MAX_SIZE)?,
            bias: keys.flag("mlp_bias", false)?,
        }),
    };
    let n_layers = keys.size("num_hidden_layers", 32, MAX_LAYERS)?;
    Ok(Config {
        family: Family::Llama,
        vocab_size: keys.size("vocab_size", 32000, MAX_SIZE)?,
        d_model,
        norm_eps: keys.positive("rms_norm_eps", 1e-6, 1.0)? as f32,
        tied: keys.flag("tie_word_embeddings", false)?,
        eos: keys.ids("eos_token_id", 2)?,
        blocks: vec![block; n_layers],
    })
}

/// θ of the rotary positions: in `rope_parameters` (transformers 5) or beside the other keys (4). Only the plain kind is run.
fn rope_theta(keys: &Keys) -> Result<f64, ConfigError> {
    const LARGEST: f64 = 1e12;
    for key in ["rope_parameters", "rope_scaling"] {
        let rope = keys.object(key)?;
        rope.one_of("rope_type", &["default"])?;
        rope.one_of("type", &["default"])?;
        if rope.positive("partial_rotary_factor", 1.0, 1.0)? != 1.0 {
            return Err(rope.refuse("partial_rotary_factor", "1"));
        }
    }
    let beside = keys.positive("rope_theta", 10_000.0, LARGEST)?;
    keys.object("rope_parameters")?
        .positive("rope_theta", beside, LARGEST)
}

/// Heads of queries and of keys and values, and the width that follows; no positions, no bias.
fn attention_heads(
    keys: &Keys,
    d_model: usize,
    default_kv_heads: Option<usize>,
) -> Result<AttentionDims, ConfigError> {
    let heads = keys.size("num_attention_heads", 32, MAX_SIZE)?;
    let kv_heads = if keys.is_absent("num_key_value_heads") {
        default_kv_heads.unwrap_or(heads)
    } else {
        keys.optional_size("num_key_value_heads", MAX_SIZE)?
            .unwrap_or(heads)
    };
    if !heads.is_multiple_of(kv_heads) {
        let wanted = format!("a divisor of the {heads} heads");
        return Err(keys.contradiction("num_key_value_heads", kv_heads, wanted));
    }
    let written = keys.optional_size("head_dim", MAX_SIZE)?;
    if written.is_none() && !d_model.is_multiple_of(heads) {
        let wanted = format!("a divisor of the width {d_model}");
        return Err(keys.contradiction("num_attention_heads", heads, wanted));
    }
    Ok(AttentionDims {
        heads,
        kv_heads,
        head_dim: written.unwrap_or(d_model / heads),
        rope_theta: None,
        bias: false,
    })
}

fn mixer_alone(mixer: MixerDims) -> BlockDims {
    BlockDims {
        mixer,
        feed_forward: None,
    }
}

/// `key` times the width: the inner channels, named `called` where that is not possible.
fn expanded(
    keys: &Keys,
    key: &'static str,
    called: &'static str,
    d_model: usize,
) -> Result<usize, ConfigError> {
    let expand = keys.positive(key, 2.0, MAX_SIZE as f64)?;
    derived_size(
        called,
        (expand * d_model as f64).trunc(),
        &format!("`{key}` times the width"),
    )
}

/// The configuration of the original state-spaces code: `ssm_cfg` says which mixer, with that code's defaults.
pub(super) fn original_config(keys: &Keys) -> Result<Config, ConfigError> {
    if !keys.flag("rms_norm", true)? {
        return Err(keys.refuse("rms_norm", "true"));
    }
    if keys.count("d_intermediate", 0, MAX_SIZE)? > 0 {
        return Err(keys.refuse("d_intermediate", "0"));
    }
    if !keys.list("attn_layer_idx")?.is_empty() {
        return Err(keys.refuse("attn_layer_idx", "an empty list"));
    }
    let d_model = keys.size("d_model", 2560, MAX_SIZE)?;
    let ssm = keys.object("ssm_cfg")?;
    let (family, mixer) = match ssm.text("layer", "Mamba1")? {
        "Mamba1" => (Family::Mamba, original_mamba(&ssm, d_model)?),
        "Mamba2" => (Family::Mamba2, original_mamba2(&ssm, d_model)?),
        _ => return Err(ssm.refuse("layer", "\"Mamba1\" or \"Mamba2\"")),
    };
    let n_layers = keys.size("n_layer", 64, MAX_LAYERS)?;
    let multiple = keys.size("pad_vocab_size_multiple", 8, MAX_SIZE)?;
    let vocab_size = keys.size("vocab_size", 50277, MAX_SIZE)?;
    Ok(Config {
        family,
        vocab_size: vocab_size.next_multiple_of(multiple),
        d_model,
        // Not in the file: the original code writes it into the norm.
        norm_eps: 1e-5,
        tied: keys.flag("tie_embeddings", true)?,
        eos: keys.ids("eos_token_id", 0)?,
        blocks: vec![mixer_alone(mixer); n_layers],
    })
}

fn original_mamba(ssm: &Keys, d_model: usize) -> Result<MixerDims, ConfigError> {
    Ok(MixerDims::Mamba(MambaDims {
        d_inner: expanded(ssm, "expand", "expand", d_model)?,
        d_state: ssm.size("d_state", 16, MAX_SIZE)?,
        d_conv: ssm.size("d_conv", 4, MAX_SIZE)?,
        dt_rank: ssm.auto_size("dt_rank", d_model.div_ceil(16), MAX_SIZE)?,
        proj_bias: ssm.flag("bias", false)?,
        conv_bias: ssm.flag("conv_bias", true)?,
        inner_norm: None,
    }))
}

fn original_mamba2(ssm: &Keys, d_model: usize) -> Result<MixerDims, ConfigError> {
    for (key, wanted) in [
        ("rmsnorm", true),
        ("norm_before_gate", false),
        ("D_has_hdim", false),
    ] {
        if ssm.flag(key, wanted)? != wanted {
            return Err(ssm.refuse(key, &wanted.to_string()));
        }
    }
    let d_inner = expanded(ssm, "expand", "expand", d_model)?;
    if ssm
        .optional_size("d_ssm", MAX_SIZE)?
        .is_some_and(|d_ssm| d_ssm != d_inner)
    {
        return Err(ssm.refuse("d_ssm", &format!("null or {d_inner}, all inner channels")));
    }
    let head_dim = ssm.size("headdim", 64, MAX_SIZE)?;
    if !d_inner.is_multiple_of(head_dim) {
        let wanted = format!("a divisor of the {d_inner} channels");
        return Err(ssm.contradiction("headdim", head_dim, wanted));
    }
    let heads = d_inner / head_dim;
    let groups = ssm.size("ngroups", 1, MAX_SIZE)?;
    if !heads.is_multiple_of(groups) {
        let wanted = format!("a divisor of the {heads} heads");
        return Err(ssm.contradiction("ngroups", groups, wanted));
    }
    Ok(MixerDims::Mamba2(Mamba2Dims {
        heads,
        head_dim,
        d_state: ssm.size("d_state", 128, MAX_SIZE)?,
        groups,
        d_conv: ssm.size("d_conv", 4, MAX_SIZE)?,
        chunk: ssm.size("chunk_size", 256, MAX_SIZE)?,
        dt_limit: ssm.limits("dt_limit", (0.0, f32::INFINITY))?,
        proj_bias: ssm.flag("bias", false)?,
        conv_bias: ssm.flag("conv_bias", true)?,
    }))
}

// Tensors of a block, behind the prefix of the layer.

/// Blocks of Mamba, FalconMamba and Mamba-2: a norm and a mixer.
fn state_space_layer(
    config: &Config,
    block: &BlockDims,
    from: &mut LayerShelf<'_>,
) -> Result<Layer, Stop> {
    Ok(Layer {
        norm: from.take("norm.weight", &[config.d_model])?,
        mixer: mixer(config.d_model, &block.mixer, "mixer", from)?,
        feed_forward: None,
    })
}

fn jamba_layer(
    config: &Config,
    block: &BlockDims,
    from: &mut LayerShelf<'_>,
) -> Result<Layer, Stop> {
    let e = config.d_model;
    let name = match block.mixer {
        MixerDims::Attention(_) => "self_attn",
        MixerDims::Mamba(_) | MixerDims::Mamba2(_) => "mamba",
    };
    Ok(Layer {
        norm: from.take("input_layernorm.weight", &[e])?,
        mixer: mixer(e, &block.mixer, name, from)?,
        feed_forward: feed_forward(e, block, "pre_ff_layernorm.weight", "feed_forward", from)?,
    })
}

fn llama_layer(
    config: &Config,
    block: &BlockDims,
    from: &mut LayerShelf<'_>,
) -> Result<Layer, Stop> {
    let e = config.d_model;
    Ok(Layer {
        norm: from.take("input_layernorm.weight", &[e])?,
        mixer: mixer(e, &block.mixer, "self_attn", from)?,
        feed_forward: feed_forward(e, block, "post_attention_layernorm.weight", "mlp", from)?,
    })
}

fn mixer(e: usize, dims: &MixerDims, name: &str, from: &mut LayerShelf<'_>) -> Result<Mixer, Stop> {
    Ok(match dims {
        MixerDims::Mamba(dims) => Mixer::Mamba(Box::new(mamba_mixer(e, dims, name, from)?)),
        MixerDims::Mamba2(dims) => Mixer::Mamba2(Box::new(mamba2_mixer(e, dims, name, from)?)),
        MixerDims::Attention(dims) => {
            Mixer::Attention(Box::new(attention_mixer(e, dims, name, from)?))
        }
    })
}

fn mamba_mixer(
    e: usize,
    dims: &MambaDims,
    name: &str,
    from: &mut LayerShelf<'_>,
) -> Result<MambaMixer, Stop> {
    let (d, n, r) = (dims.d_inner, dims.d_state, dims.dt_rank);
    let at = |tensor: &str| format!("{name}.{tensor}");
    let inner_norms = match dims.inner_norm {
        Some(InnerNorm { weighted: true, .. }) => Some(InnerNorms {
            dt: from.take(&at("dt_layernorm.weight"), &[r])?,
            b: from.take(&at("b_layernorm.weight"), &[n])?,
            c: from.take(&at("c_layernorm.weight"), &[n])?,
        }),
        _ => None,
    };
    Ok(MambaMixer {
        in_proj: from.take(&at("in_proj.weight"), &[2 * d, e])?,
        in_proj_bias: from.take_if(dims.proj_bias, &at("in_proj.bias"), &[2 * d])?,
        conv: from.take(&at("conv1d.weight"), &[d, 1, dims.d_conv])?,
        conv_bias: from.take_if(dims.conv_bias, &at("conv1d.bias"), &[d])?,
        x_proj: from.take(&at("x_proj.weight"), &[r + 2 * n, d])?,
        inner_norms,
        dt_proj: from.take(&at("dt_proj.weight"), &[d, r])?,
        dt_bias: from.take(&at("dt_proj.bias"), &[d])?,
        a_log: from.take(&at("A_log"), &[d, n])?,
        d_skip: from.take(&at("D"), &[d])?,
        out_proj: from.take(&at("out_proj.weight"), &[e, d])?,
        out_proj_bias: from.take_if(dims.proj_bias, &at("out_proj.bias"), &[e])?,
    })
}

fn mamba2_mixer(
    e: usize,
    dims: &Mamba2Dims,
    name: &str,
    from: &mut LayerShelf<'_>,
) -> Result<Mamba2Mixer, Stop> {
    let (d, channels, rows) = (dims.d_inner(), dims.conv_channels(), dims.in_rows());
    let at = |tensor: &str| format!("{name}.{tensor}");
    Ok(Mamba2Mixer {
        in_proj: from.take(&at("in_proj.weight"), &[rows, e])?,
        in_proj_bias: from.take_if(dims.proj_bias, &at("in_proj.bias"), &[rows])?,
        conv: from.take(&at("conv1d.weight"), &[channels, 1, dims.d_conv])?,
        conv_bias: from.take_if(dims.conv_bias, &at("conv1d.bias"), &[channels])?,
        dt_bias: from.take(&at("dt_bias"), &[dims.heads])?,
        a_log: from.take(&at("A_log"), &[dims.heads])?,
        d_skip: from.take(&at("D"), &[dims.heads])?,
        norm: from.take(&at("norm.weight"), &[d])?,
        out_proj: from.take(&at("out_proj.weight"), &[e, d])?,
        out_proj_bias: from.take_if(dims.proj_bias, &at("out_proj.bias"), &[e])?,
    })
}

fn attention_mixer(
    e: usize,
    dims: &AttentionDims,
    name: &str,
    from: &mut LayerShelf<'_>,
) -> Result<AttentionMixer, Stop> {
    let (q, kv) = (dims.query_width(), dims.kv_width());
    let mut projection = |part: &str, shape: [usize; 2]| -> Result<_, Stop> {
        let weight = from.take(&format!("{name}.{part}.weight"), &shape)?;
        let bias = from.take_if(dims.bias, &format!("{name}.{part}.bias"), &shape[..1])?;
        Ok((weight, bias))
    };
    let (q_proj, q_bias) = projection("q_proj", [q, e])?;
    let (k_proj, k_bias) = projection("k_proj", [kv, e])?;
    let (v_proj, v_bias) = projection("v_proj", [kv, e])?;
    let (o_proj, o_bias) = projection("o_proj", [e, q])?;
    Ok(AttentionMixer {
        q_proj,
        q_bias,
        k_proj,
        k_bias,
        v_proj,
        v_bias,
        o_proj,
        o_bias,
    })
}

fn feed_forward(
    e: usize,
    block: &BlockDims,
    norm: &str,
    name: &str,
    from: &mut LayerShelf<'_>,
) -> Result<Option<FeedForwardPart>, Stop> {
    let Some(dims) = block.feed_forward else {
        return Ok(None);
    };
    let norm = from.take(norm, &[e])?;
    let network = match dims {
        FeedForwardDims::Dense { width, bias } => {
            FeedForward::Dense(Box::new(from.mlp(name, e, width, bias)?))
        }
        FeedForwardDims::Experts { width, count, .. } => from.experts(name, e, width, count)?,
    };
    Ok(Some(FeedForwardPart { norm, network }))
}
