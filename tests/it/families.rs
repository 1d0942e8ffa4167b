//! Configurations of the families: what each key means, the original format's defaults, and what is refused.

use mambascope_core::model::{
    AttentionDims, Config, Family, FeedForwardDims, InnerNorm, Mamba2Dims, MixerDims,
};
use serde_json::{Value, json};

use crate::support::parameters;

fn config(keys: Value) -> Config {
    Config::from_json(&keys.to_string()).unwrap()
}

#[track_caller]
fn refuses(keys: Value, needle: &str) {
    let message = Config::from_json(&keys.to_string())
        .unwrap_err()
        .to_string();
    assert!(message.contains(needle), "{needle:?} is not in: {message}");
}

fn mamba2(config: &Config) -> Mamba2Dims {
    match config.blocks[0].mixer {
        MixerDims::Mamba2(dims) => dims,
        other => panic!("{other:?}"),
    }
}

fn attention(config: &Config, layer: usize) -> AttentionDims {
    config.blocks[layer].mixer.attention().unwrap()
}

#[test]
fn mamba_2_and_its_three_spellings_of_infinity() {
    let plain = config(json!({"model_type": "mamba2"}));
    let dims = mamba2(&plain);
    assert_eq!(
        (dims.heads, dims.head_dim, dims.d_state, dims.groups),
        (128, 64, 128, 8)
    );
    assert_eq!(
        (dims.d_inner(), dims.conv_channels(), dims.in_rows()),
        (8192, 10240, 18560)
    );
    assert_eq!((dims.chunk, dims.dt_limit), (256, (0.0, f32::INFINITY)));
    assert!(!plain.tied && plain.n_layers() == 64);
    for limit in [
        r#"[0.0, {"__float__": "Infinity"}]"#,
        "[0.0, Infinity]",
        r#"[0.0, "inf"]"#,
    ] {
        let text = format!(r#"{{"model_type": "mamba2", "time_step_limit": {limit}}}"#);
        assert_eq!(Config::from_json(&text).unwrap(), plain, "{limit}");
    }
    let limited = config(json!({"model_type": "mamba2", "time_step_limit": [0.01, 0.2]}));
    assert_eq!(mamba2(&limited).dt_limit, (0.01, 0.2));
    for wrong in [
        json!([0.2, 0.1]),
        json!([0.1]),
        json!("x"),
        json!([{"__float__": "NaN"}, 1]),
    ] {
        refuses(
            json!({"model_type": "mamba2", "time_step_limit": wrong}),
            "`time_step_limit` is",
        );
    }
    refuses(
        json!({"model_type": "mamba2", "num_heads": 127}),
        "`num_heads` is 127, wanted 8192 / 64",
    );
    refuses(
        json!({"model_type": "mamba2", "n_groups": 7}),
        "`n_groups` is 7, wanted a divisor of the 128 heads",
    );
}

#[test]
fn falcon_mamba_overrides_expand() {
    let keys = json!({"model_type": "falcon_mamba", "hidden_size": 4096, "expand": 16, "intermediate_size": 8192, "mixer_rms_eps": 1e-5});
    let MixerDims::Mamba(dims) = config(keys).blocks[0].mixer else {
        panic!("not Mamba-1")
    };
    assert_eq!((dims.d_inner, dims.dt_rank), (8192, 256));
    assert_eq!(
        dims.inner_norm,
        Some(InnerNorm {
            eps: 1e-5,
            weighted: false
        })
    );
}

#[test]
fn jamba_mixes_by_two_rules() {
    let model = config(json!({"model_type": "jamba"}));
    let is_attention = |i: usize| model.blocks[i].mixer.attention().is_some();
    let has_experts = |i: usize| {
        matches!(
            model.blocks[i].feed_forward,
            Some(FeedForwardDims::Experts { .. })
        )
    };
    assert_eq!(
        (0..32).filter(|&i| is_attention(i)).collect::<Vec<_>>(),
        [4, 12, 20, 28]
    );
    assert!((0..32).all(|i| has_experts(i) == (i % 2 == 1)));
    let dims = attention(&model, 4);
    assert_eq!(
        (dims.heads, dims.kv_heads, dims.head_dim, dims.rope_theta),
        (32, 8, 128, None)
    );
    let all = config(json!({"model_type": "jamba", "num_key_value_heads": null}));
    assert_eq!(attention(&all, 4).kv_heads, 32);
    let one = config(json!({"model_type": "jamba", "num_experts": 1}));
    assert_eq!(
        one.blocks[1].feed_forward,
        Some(FeedForwardDims::Dense {
            width: 14336,
            bias: false
        })
    );
    refuses(
        json!({"model_type": "jamba", "num_experts_per_tok": 17}),
        "`num_experts_per_tok` is 17",
    );
    refuses(
        json!({"model_type": "jamba", "num_experts": 100_000}),
        "`num_experts` is 100000",
    );
    refuses(
        json!({"model_type": "jamba", "num_key_value_heads": 5}),
        "a divisor of the 32 heads",
    );
}

#[test]
fn a_transformer_turns_by_theta() {
    let five = config(
        json!({"model_type": "llama", "rope_parameters": {"rope_theta": 500_000.0, "rope_type": "default"}}),
    );
    let four =
        config(json!({"model_type": "llama", "rope_theta": 500_000.0, "rope_scaling": null}));
    assert_eq!(five, four);
    assert_eq!(attention(&five, 0).rope_theta, Some(500_000.0));
    assert_eq!(
        (attention(&five, 0).kv_heads, attention(&five, 0).head_dim),
        (32, 128)
    );
    let wide = config(
        json!({"model_type": "llama", "hidden_size": 100, "num_attention_heads": 3, "head_dim": 64}),
    );
    assert_eq!(attention(&wide, 0).query_width(), 192);
    refuses(
        json!({"model_type": "llama", "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}),
        "`rope_type` is \"llama3\"",
    );
    refuses(
        json!({"model_type": "llama", "hidden_size": 100, "num_attention_heads": 3}),
        "`num_attention_heads` is 3",
    );
    refuses(
        json!({"model_type": "llama", "head_dim": 63}),
        "`head_dim` is 63, wanted an even number",
    );
    refuses(
        json!({"model_type": "llama", "rope_scaling": [1]}),
        "`rope_scaling` is a list, wanted an object",
    );
}

#[test]
fn the_original_format_has_its_own_defaults() {
    let mamba = config(
        json!({"d_model": 768, "n_layer": 24, "vocab_size": 50277, "ssm_cfg": {}, "rms_norm": true}),
    );
    assert_eq!(
        (mamba.family, mamba.vocab_size, mamba.tied),
        (Family::Mamba, 50280, true)
    );
    assert_eq!(parameters(&mamba), 129_135_360);
    let sizes = [
        (768, 24, 128_989_632),
        (1024, 48, 368_346_624),
        (1536, 48, 780_161_280),
        (2048, 48, 1_343_757_312),
        (2560, 64, 2_702_599_680_usize),
    ];
    for (width, layers, wanted) in sizes {
        let two = config(json!({
            "d_model": width, "d_intermediate": 0, "n_layer": layers, "vocab_size": 50277, "ssm_cfg": {"layer": "Mamba2"},
            "attn_layer_idx": [], "attn_cfg": {}, "rms_norm": true, "residual_in_fp32": true, "fused_add_norm": true,
            "pad_vocab_size_multiple": 16, "tie_embeddings": true,
        }));
        assert_eq!((two.family, two.vocab_size), (Family::Mamba2, 50288));
        assert_eq!(parameters(&two), wanted, "{width}");
    }
    let original = |keys: Value| {
        let mut all = json!({"d_model": 64, "n_layer": 2});
        all.as_object_mut()
            .unwrap()
            .extend(keys.as_object().unwrap().clone());
        all
    };
    refuses(
        original(json!({"rms_norm": false})),
        "`rms_norm` is false, wanted true",
    );
    refuses(
        original(json!({"d_intermediate": 8})),
        "`d_intermediate` is 8, wanted 0",
    );
    refuses(
        original(json!({"attn_layer_idx": [1]})),
        "`attn_layer_idx` is a list, wanted an empty list",
    );
    refuses(
        original(json!({"ssm_cfg": {"layer": "Mamba3"}})),
        "`layer` is \"Mamba3\", wanted \"Mamba1\" or \"Mamba2\"",
    );
    let two =
        |key: &str, value: Value| original(json!({"ssm_cfg": {"layer": "Mamba2", key: value}}));
    refuses(
        two("norm_before_gate", json!(true)),
        "`norm_before_gate` is true",
    );
    refuses(two("D_has_hdim", json!(true)), "`D_has_hdim` is true");
    refuses(two("d_ssm", json!(100)), "`d_ssm` is 100");
    refuses(
        two("headdim", json!(48)),
        "`headdim` is 48, wanted a divisor of the 128 channels",
    );
}
