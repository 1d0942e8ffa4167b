//! `config.json`: what its keys mean, and what each value that cannot be is answered with.

use mambascope_core::model::{BlockDims, Config, Family, MambaDims, MixerDims};
use serde_json::{Value, json};

use crate::support::parameters;

fn config(text: &str) -> Config {
    Config::from_json(text).unwrap()
}

#[track_caller]
fn assert_config_says(text: &str, needles: &[&str]) {
    let message = Config::from_json(text).unwrap_err().to_string();
    for needle in needles {
        assert!(message.contains(needle), "{needle:?} is not in: {message}");
    }
}

#[test]
fn absent_keys_take_hugging_faces_defaults() {
    let found = config(r#"{"model_type": "mamba"}"#);
    let mixer = MixerDims::Mamba(MambaDims {
        d_inner: 1536,
        d_state: 16,
        d_conv: 4,
        dt_rank: 48,
        proj_bias: false,
        conv_bias: true,
        inner_norm: None,
    });
    let wanted = Config {
        family: Family::Mamba,
        vocab_size: 50280,
        d_model: 768,
        norm_eps: 1e-5,
        tied: true,
        eos: vec![0],
        blocks: vec![
            BlockDims {
                mixer,
                feed_forward: None,
            };
            32
        ],
    };
    assert_eq!(found, wanted);
    assert_eq!(config(r#"{"architectures": ["MambaForCausalLM"]}"#), wanted);
}

fn mamba(config: &Config) -> MambaDims {
    match config.blocks[0].mixer {
        MixerDims::Mamba(dims) => dims,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_published_size_has_its_parameters() {
    let sizes = [
        (768, 24, 129_135_360),
        (1024, 48, 371_516_416),
        (1536, 48, 793_204_224),
        (2048, 48, 1_372_178_432),
        (2560, 64, 2_768_345_600_usize),
    ];
    for (width, layers, wanted) in sizes {
        let keys =
            json!({"model_type": "mamba", "hidden_size": width, "num_hidden_layers": layers});
        let config = config(&keys.to_string());
        assert_eq!(parameters(&config), wanted, "{width}");
    }
}

#[test]
fn keys_of_a_configuration_mean_what_they_mean_in_transformers() {
    let with =
        |key: &str, value: Value| config(&json!({"model_type": "mamba", key: value}).to_string());
    assert_eq!(mamba(&with("expand", json!(1.5))).d_inner, 1152);
    assert_eq!(mamba(&with("intermediate_size", json!(1000))).d_inner, 1000);
    assert_eq!(mamba(&with("intermediate_size", Value::Null)).d_inner, 1536);
    assert_eq!(mamba(&with("hidden_size", json!(17))).dt_rank, 2);
    assert_eq!(mamba(&with("time_step_rank", json!("auto"))).dt_rank, 48);
    assert_eq!(mamba(&with("time_step_rank", json!(7))).dt_rank, 7);
    assert_eq!(with("eos_token_id", json!([1, 2])).eos, [1, 2]);
    assert_eq!(with("eos_token_id", json!(5)).eos, [5]);
    assert_eq!(with("eos_token_id", Value::Null).eos, [0; 0]);
    assert!(!with("tie_word_embeddings", json!(false)).tied);
    assert!(mamba(&with("use_bias", json!(true))).proj_bias);
    assert!(!mamba(&with("use_conv_bias", json!(false))).conv_bias);
    assert_eq!(
        with("hidden_act", json!("swish")),
        with("hidden_act", json!("silu"))
    );
    assert_eq!(mamba(&with("ssm_cfg", json!({"d_state": 3}))).d_state, 16);
}

#[test]
fn infinities_of_any_spelling_are_tolerated_in_other_keys() {
    let plain = config(r#"{"model_type": "mamba"}"#);
    for limit in [
        "[0.0, Infinity]",
        "[-Infinity, NaN]",
        r#"[0.0, {"__float__": "Infinity"}]"#,
        r#""Infinity""#,
    ] {
        assert_eq!(
            config(&format!(
                "\u{feff}{{\"time_step_limit\": {limit}, \"model_type\": \"mamba\"}}"
            )),
            plain
        );
    }
    assert_config_says(
        r#"{"model_type": "mamba", "layer_norm_epsilon": Infinity}"#,
        &["`layer_norm_epsilon` is Infinity, wanted a number above 0"],
    );
}

#[test]
fn an_unsupported_family_is_named() {
    let says = |text: &str| Config::from_json(text).unwrap_err().to_string();
    assert_eq!(
        says(r#"{"model_type": "rwkv"}"#),
        "not supported yet: rwkv. Supported: mamba, falcon_mamba, mamba2, jamba, llama, and the original state-spaces format \
         of Mamba and Mamba-2."
    );
    assert_config_says(
        r#"{"architectures": ["GPT2LMHeadModel"]}"#,
        &["not supported yet: \"GPT2LMHeadModel\""],
    );
    assert_config_says(
        r#"{"hidden_size": 3}"#,
        &["`model_type` is missing, wanted one of: mamba, falcon_mamba"],
    );
    assert_config_says(r#"{"model_type": 3}"#, &["`model_type` is 3"]);
}

#[test]
fn text_that_is_no_configuration() {
    assert_config_says("", &["not valid JSON", "line 1"]);
    assert_config_says("{\"model_type\": \"mamba\"", &["not valid JSON", "EOF"]);
    assert_config_says("[1, 2]", &["is a list, wanted a JSON object"]);
    assert_config_says(&"[".repeat(100_000), &["not valid JSON", "recursion"]);
    assert_config_says(&" ".repeat(5 << 20), &["5242880 bytes"]);
}

#[test]
fn sizes_that_cannot_be_are_refused_by_name() {
    let sizes = [
        "hidden_size",
        "vocab_size",
        "num_hidden_layers",
        "state_size",
        "conv_kernel",
        "time_step_rank",
        "intermediate_size",
    ];
    let numbers = [
        "0",
        "-1",
        "2.5",
        "16777217",
        "99999999999999999999999",
        "\"12\"",
        "true",
        "[1]",
        "{}",
    ];
    for key in sizes {
        for number in numbers {
            let text = format!(r#"{{"model_type": "mamba", "{key}": {number}}}"#);
            assert_config_says(
                &text,
                &[
                    &format!("`{key}` is"),
                    "wanted",
                    "whole number from 1 to",
                    "Correct config.json",
                ],
            );
        }
    }
    assert_config_says(
        r#"{"model_type": "mamba", "hidden_size": null}"#,
        &["`hidden_size` is null"],
    );
    assert_config_says(
        r#"{"model_type": "mamba", "num_hidden_layers": 4097}"#,
        &["is 4097", "from 1 to 4096"],
    );
}

#[test]
fn values_of_the_wrong_kind_are_refused_by_name() {
    let wrong = [
        ("expand", "0", "`expand` is 0, wanted a number above 0"),
        ("expand", "\"2\"", "`expand` is \"2\""),
        (
            "expand",
            "0.0001",
            "`intermediate_size` is 0 (from `expand` times the width)",
        ),
        ("expand", "16777216", "`intermediate_size` is 12884901888"),
        (
            "layer_norm_epsilon",
            "-1e-5",
            "`layer_norm_epsilon` is -0.00001",
        ),
        ("layer_norm_epsilon", "1e-60", "wanted a number above 0"),
        ("use_bias", "1", "`use_bias` is 1, wanted true or false"),
        ("use_conv_bias", "\"yes\"", "`use_conv_bias` is \"yes\""),
        ("tie_word_embeddings", "0", "`tie_word_embeddings` is 0"),
        (
            "hidden_act",
            "\"gelu\"",
            "`hidden_act` is \"gelu\", wanted \"silu\" or \"swish\"",
        ),
        ("hidden_act", "3", "`hidden_act` is 3"),
        (
            "eos_token_id",
            "-1",
            "`eos_token_id` is -1, wanted a token id",
        ),
        ("eos_token_id", "[1, \"x\"]", "`eos_token_id` is \"x\""),
        ("eos_token_id", "4294967296", "`eos_token_id` is 4294967296"),
        (
            "time_step_rank",
            "\"automatic\"",
            "wanted \"auto\" or a whole number",
        ),
    ];
    for (key, value, needle) in wrong {
        assert_config_says(
            &format!(r#"{{"model_type": "mamba", "{key}": {value}}}"#),
            &[needle],
        );
    }
}
