//! Checkpoints: what loads and how, and what each kind of damage is answered with.

use std::cell::RefCell;
use std::fs;
use std::path::Path;

use mambascope_core::checkpoint::{LoadError, embedded, load};
use mambascope_core::model::{Config, Family, MambaDims, Model, Need, Source};
use mambascope_core::tensor::Dtype;
use serde_json::{Value, json};

use crate::tiny::{self, Part, Tiny, file_of, fixture, tokenizer_json, weights_of};

const EMBEDDING: &str = "backbone.embeddings.weight";
const HEAD: &str = "lm_head.weight";

fn open(path: &Path) -> Result<Model, LoadError> {
    load(path, &|_| {})
}

/// Asserts that loading failed and that the message names all of `needles`.
#[track_caller]
fn assert_says(result: Result<Model, LoadError>, needles: &[&str]) {
    let message = result.map(|model| model.name).unwrap_err().to_string();
    for needle in needles {
        assert!(message.contains(needle), "{needle:?} is not in: {message}");
    }
}

// What loads.

#[test]
fn fixtures_load_with_their_sizes() {
    let tiny = open(&fixture("mamba1-tiny")).unwrap();
    assert_eq!(tiny.name, "mamba1-tiny");
    assert_eq!(tiny.source, Source::Folder(fixture("mamba1-tiny")));
    let dims = MambaDims {
        d_inner: 64,
        d_state: 8,
        d_conv: 4,
        dt_rank: 2,
        proj_bias: false,
        conv_bias: true,
    };
    assert_eq!(
        (
            tiny.config.vocab_size,
            tiny.config.d_model,
            tiny.config.mamba
        ),
        (96, 32, dims)
    );
    assert_eq!(tiny.layers.len(), tiny.config.n_layers);
    assert!(tiny.head.is_none() && tiny.tokenizer.is_none() && tiny.card.is_none());
    assert_eq!(
        tiny.warnings,
        ["There is no tokenizer.json in the folder: texts are shown as token ids."]
    );
    assert_eq!(tiny.bytes_on_disk, 81896);
    assert_eq!(tiny.head().shape(), [96, 32]);

    let odd = open(&fixture("mamba1-odd")).unwrap();
    let dims = MambaDims {
        d_inner: 96,
        d_state: 16,
        d_conv: 3,
        dt_rank: 5,
        proj_bias: true,
        conv_bias: false,
    };
    assert_eq!(
        (
            odd.config.vocab_size,
            odd.config.d_model,
            odd.config.n_layers
        ),
        (67, 48, 3)
    );
    assert_eq!(odd.config.mamba, dims);
    assert!(odd.head.is_some());
    assert_eq!(
        odd.layers[2].mixer.in_proj_bias.as_ref().unwrap().shape(),
        [192]
    );
    assert!(odd.layers[2].mixer.conv_bias.is_none());
}

#[test]
fn a_mapped_tensor_has_the_values_of_the_file() {
    let model = open(&fixture("mamba1-tiny")).unwrap();
    let bytes = fs::read(fixture("mamba1-tiny").join("model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let a_log = file.tensor("backbone.layers.1.mixer.A_log").unwrap();
    assert_eq!(model.layers[1].mixer.a_log.raw(), a_log.data());
    let first = f32::from_le_bytes(a_log.data()[..4].try_into().unwrap());
    assert_eq!(model.layers[1].mixer.a_log.as_f32()[0], first);
}

#[test]
fn a_folder_is_found_from_its_files() {
    let folder = fixture("mamba1-tiny");
    for file in ["config.json", "model.safetensors"] {
        let model = open(&folder.join(file)).unwrap();
        assert_eq!(
            (model.name.as_str(), model.source),
            ("mamba1-tiny", Source::Folder(folder.clone())),
            "{file}"
        );
    }
}

#[test]
fn the_embedded_model_loads() {
    let model = embedded().unwrap();
    assert_eq!(
        (model.name.as_str(), &model.source),
        ("novel-mamba-3m", &Source::Embedded)
    );
    assert_eq!(
        (
            model.config.d_model,
            model.config.n_layers,
            model.config.vocab_size
        ),
        (256, 6, 2048)
    );
    assert_eq!(model.warnings, [""; 0]);
    assert_eq!(model.tokenizer.as_ref().unwrap().len(), 2048);
    assert!(model.card.as_ref().unwrap().contains('#'));
    assert_eq!(model.dtypes(), [Dtype::Bf16, Dtype::F32]);
    assert!(
        model
            .tensors()
            .filter(|t| t.dtype() == Dtype::F32)
            .all(|t| t.as_f32().len() == t.len())
    );
    assert_eq!(
        model.tensors().map(|t| t.widened_bytes()).sum::<usize>(),
        0,
        "f32 is used where it lies"
    );
}

#[test]
fn progress_rises_from_zero_to_one() {
    let seen = RefCell::new(Vec::new());
    load(&fixture("mamba1-tiny"), &|done| {
        seen.borrow_mut().push(done)
    })
    .unwrap();
    let seen = seen.into_inner();
    assert!(seen.is_sorted() && seen.len() > 10, "{seen:?}");
    assert_eq!((seen.first(), seen.last()), (Some(&0.0), Some(&1.0)));
}

/// Splits the tiny checkpoint in two shards and writes an index whose file names went through `rename`.
fn write_shards(folder: &Path, rename: impl Fn(&str) -> String) {
    let tiny = Tiny::new();
    tiny.write(folder);
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    let mut map = serde_json::Map::new();
    for (i, is_mixer) in [false, true].into_iter().enumerate() {
        let shard = format!("model-0000{}-of-00002.safetensors", i + 1);
        let parts = tiny
            .parts
            .clone()
            .into_iter()
            .filter(|(name, _)| name.contains("mixer") == is_mixer)
            .collect();
        map.extend(
            std::collections::BTreeMap::keys(&parts)
                .map(|name| (name.clone(), json!(rename(&shard)))),
        );
        fs::write(folder.join(shard), weights_of(&parts)).unwrap();
    }
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    fs::write(
        folder.join("model.safetensors.index.json"),
        index.to_string(),
    )
    .unwrap();
}

#[test]
fn shards_load_like_one_file() {
    let folder = tempfile::tempdir().unwrap();
    write_shards(folder.path(), str::to_owned);
    let whole = Tiny::new().load().unwrap();
    for path in [
        "",
        "model.safetensors.index.json",
        "model-00002-of-00002.safetensors",
    ] {
        let sharded = open(&folder.path().join(path)).unwrap();
        assert!(
            sharded
                .tensors()
                .zip(whole.tensors())
                .all(|(a, b)| a.raw() == b.raw() && a.shape() == b.shape())
        );
        assert!(sharded.bytes_on_disk > 0);
    }
}

#[test]
fn a_single_file_goes_before_an_index() {
    let folder = tempfile::tempdir().unwrap();
    Tiny::new().write(folder.path());
    fs::write(folder.path().join("model.safetensors.index.json"), "stale").unwrap();
    open(folder.path()).unwrap();
}

#[test]
fn weights_under_another_name_load_when_picked() {
    let folder = tempfile::tempdir().unwrap();
    Tiny::new().write(folder.path());
    let picked = folder.path().join("step-1000.safetensors");
    fs::rename(folder.path().join("model.safetensors"), &picked).unwrap();
    open(&picked).unwrap();
    assert_says(open(folder.path()), &["has no model.safetensors"]);
}

#[test]
fn a_folder_of_the_hub_cache_is_called_by_its_repository() {
    let cache = tempfile::tempdir().unwrap();
    let folder = cache
        .path()
        .join("models--state-spaces--mamba-130m-hf/snapshots/0123abcd");
    fs::create_dir_all(&folder).unwrap();
    Tiny::new().write(&folder);
    assert_eq!(open(&folder).unwrap().name, "state-spaces/mamba-130m-hf");
}

#[test]
fn a_card_is_read_and_never_stops_a_model() {
    let folder = tempfile::tempdir().unwrap();
    Tiny::new().write(folder.path());
    fs::write(folder.path().join("README.md"), "# Readme").unwrap();
    assert_eq!(
        open(folder.path()).unwrap().card.as_deref(),
        Some("# Readme")
    );
    fs::write(folder.path().join("MODEL_CARD.md"), "# Card").unwrap();
    assert_eq!(open(folder.path()).unwrap().card.as_deref(), Some("# Card"));
    fs::write(
        folder.path().join("MODEL_CARD.md"),
        vec![b'x'; (1 << 20) + 1],
    )
    .unwrap();
    let model = open(folder.path()).unwrap();
    assert_eq!(model.card.as_deref(), Some("# Readme"));
    assert!(
        model
            .warnings
            .iter()
            .any(|w| w.contains("MODEL_CARD.md") && w.contains("at most 1048576"))
    );
    fs::write(folder.path().join("README.md"), [0xff, 0xfe]).unwrap();
    assert_eq!(open(folder.path()).unwrap().card, None);
}

// Folders.

#[test]
fn paths_that_are_no_checkpoint() {
    assert_says(open(Path::new("")), &["no folder was given"]);
    assert_says(
        open(Path::new("no/such/folder")),
        &["no/such/folder does not exist", "choose it again"],
    );
    let folder = tempfile::tempdir().unwrap();
    assert_says(
        open(folder.path()),
        &["has no config.json", &folder.path().display().to_string()],
    );
    fs::write(folder.path().join("notes.txt"), "hello").unwrap();
    assert_says(
        open(&folder.path().join("notes.txt")),
        &["notes.txt is no checkpoint", "config.json"],
    );
    Tiny::new().write(folder.path());
    fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    assert_says(open(folder.path()), &["has no model.safetensors"]);
    fs::write(folder.path().join("pytorch_model.bin"), "PK").unwrap();
    let original = "this folder has pytorch_model.bin but no model.safetensors: the original format is not supported yet";
    assert_says(open(folder.path()), &[original, "-hf"]);
    fs::create_dir(folder.path().join("model.safetensors")).unwrap();
    assert_says(
        open(folder.path()),
        &["model.safetensors is not a regular file"],
    );
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    Tiny::new().write(folder.path());
    let weights = folder.path().join("model.safetensors");
    fs::remove_file(&weights).unwrap();
    assert!(
        std::process::Command::new("mkfifo")
            .arg(&weights)
            .status()
            .unwrap()
            .success()
    );
    assert_says(
        open(folder.path()),
        &["model.safetensors is not a regular file"],
    );
    assert_says(open(&weights), &["model.safetensors is not a regular file"]);
}

#[cfg(unix)]
#[test]
fn a_file_without_permission_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    Tiny::new().write(folder.path());
    let weights = folder.path().join("model.safetensors");
    fs::set_permissions(&weights, fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser may read everything.
    if fs::read(&weights).is_err() {
        assert_says(
            open(folder.path()),
            &["model.safetensors may not be read: permission denied"],
        );
    }
}

#[test]
fn text_files_are_bounded_and_must_be_text() {
    let folder = tempfile::tempdir().unwrap();
    Tiny::new().write(folder.path());
    fs::write(folder.path().join("config.json"), " ".repeat((4 << 20) + 1)).unwrap();
    assert_says(
        open(folder.path()),
        &["config.json has 4194305 bytes, wanted at most 4194304"],
    );
    fs::write(folder.path().join("config.json"), [b'{', 0xff, b'}']).unwrap();
    assert_says(open(folder.path()), &["config.json is not UTF-8 text"]);
}

#[test]
fn an_index_must_not_lead_out_of_its_folder() {
    let names = [
        "../model.safetensors",
        "/tmp/model.safetensors",
        "a/b.safetensors",
        "..",
        "",
        ".",
        "C:x.safetensors",
    ];
    for name in names.into_iter().chain([
        "a\\b.safetensors",
        "model.bin",
        "nul\0.safetensors",
        ".safetensors",
    ]) {
        let folder = tempfile::tempdir().unwrap();
        write_shards(folder.path(), |_| name.to_owned());
        assert_says(
            open(folder.path()),
            &[
                "model.safetensors.index.json",
                &format!("{name:?}"),
                "wanted the plain name",
            ],
        );
    }
}

#[test]
fn an_index_that_is_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("model.safetensors.index.json");
    write_shards(folder.path(), |_| "model-00001-of-00002.safetensors".into());
    let absent = [
        "backbone.layers.0.mixer.A_log is not in model-00001-of-00002.safetensors",
        "and 1 more",
    ];
    assert_says(open(folder.path()), &absent);
    write_shards(folder.path(), |_| "model-00009-of-00002.safetensors".into());
    assert_says(
        open(folder.path()),
        &["model-00009-of-00002.safetensors does not exist"],
    );
    fs::write(&index, "{").unwrap();
    assert_says(
        open(folder.path()),
        &["model.safetensors.index.json: it is not valid JSON"],
    );
    fs::write(&index, "[]").unwrap();
    assert_says(open(folder.path()), &["`weight_map` is missing"]);
    fs::write(&index, r#"{"weight_map": {}}"#).unwrap();
    assert_says(open(folder.path()), &["`weight_map` is empty"]);
    fs::write(&index, r#"{"weight_map": {"x": 3}}"#).unwrap();
    assert_says(
        open(folder.path()),
        &["the file of \"x\" is 3, wanted a name"],
    );
}

// Configurations.

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
    let mamba = MambaDims {
        d_inner: 1536,
        d_state: 16,
        d_conv: 4,
        dt_rank: 48,
        proj_bias: false,
        conv_bias: true,
    };
    let wanted = Config {
        family: Family::Mamba,
        vocab_size: 50280,
        d_model: 768,
        n_layers: 32,
        norm_eps: 1e-5,
        tied: true,
        eos: vec![0],
        mamba,
    };
    assert_eq!(found, wanted);
    assert_eq!(config(r#"{"architectures": ["MambaForCausalLM"]}"#), wanted);
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
        let specs = config.family.entry().tensors(&config);
        let stored = specs.filter(|spec| spec.need == Need::Required || spec.alias.is_some());
        assert_eq!(
            stored
                .map(|spec| spec.shape.iter().product::<usize>())
                .sum::<usize>(),
            wanted,
            "{width}"
        );
    }
}

#[test]
fn keys_of_a_configuration_mean_what_they_mean_in_transformers() {
    let with =
        |key: &str, value: Value| config(&json!({"model_type": "mamba", key: value}).to_string());
    assert_eq!(with("expand", json!(1.5)).mamba.d_inner, 1152);
    assert_eq!(with("intermediate_size", json!(1000)).mamba.d_inner, 1000);
    assert_eq!(with("intermediate_size", Value::Null).mamba.d_inner, 1536);
    assert_eq!(with("hidden_size", json!(17)).mamba.dt_rank, 2);
    assert_eq!(with("time_step_rank", json!("auto")).mamba.dt_rank, 48);
    assert_eq!(with("time_step_rank", json!(7)).mamba.dt_rank, 7);
    assert_eq!(with("eos_token_id", json!([1, 2])).eos, [1, 2]);
    assert_eq!(with("eos_token_id", json!(5)).eos, [5]);
    assert_eq!(with("eos_token_id", Value::Null).eos, [0; 0]);
    assert!(!with("tie_word_embeddings", json!(false)).tied);
    assert!(with("use_bias", json!(true)).mamba.proj_bias);
    assert!(!with("use_conv_bias", json!(false)).mamba.conv_bias);
    assert_eq!(
        with("hidden_act", json!("swish")),
        with("hidden_act", json!("silu"))
    );
    assert_eq!(with("ssm_cfg", json!({"d_state": 3})).mamba.d_state, 16);
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
        says(r#"{"model_type": "mamba2"}"#),
        "not supported yet: mamba2. Supported: mamba."
    );
    assert_eq!(
        says(r#"{"model_type": "jamba"}"#),
        "not supported yet: jamba. Supported: mamba."
    );
    assert_config_says(
        r#"{"architectures": ["LlamaForCausalLM"]}"#,
        &["not supported yet: \"LlamaForCausalLM\""],
    );
    assert_config_says(
        r#"{"hidden_size": 3}"#,
        &["`model_type` is missing, wanted one of: mamba."],
    );
    assert_config_says(r#"{"model_type": 3}"#, &["`model_type` is 3"]);
    let original =
        r#"{"d_model": 768, "n_layer": 24, "vocab_size": 50277, "ssm_cfg": {}, "rms_norm": true}"#;
    assert_config_says(
        original,
        &["original state-spaces format is not supported yet; use the -hf repository"],
    );
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
            "`intermediate_size` is 0 (from `expand` times `hidden_size`)",
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

// Tensors.

#[test]
fn missing_and_misshapen_tensors_are_named() {
    let name = "backbone.layers.0.mixer.A_log";
    assert_says(
        Tiny::new().without(name).load(),
        &[
            name,
            "is missing, wanted shape [16, 4]",
            "model.safetensors",
        ],
    );
    let misshapen = Tiny::new().with(name, Part::constant(&[4, 16], 0.0));
    assert_says(
        misshapen.load(),
        &[name, "has shape [4, 16], wanted [16, 4]"],
    );
    let integer = Part {
        dtype: "I32",
        ..Part::constant(&[16, 4], 0.0)
    };
    assert_says(
        Tiny::new().with(name, integer).load(),
        &[name, "has dtype I32, wanted F32, F16 or BF16"],
    );
    assert_says(
        Tiny::new().without(EMBEDDING).load(),
        &[EMBEDDING, "is missing, wanted shape [16, 8]"],
    );
    let deeper = Tiny::new().set("num_hidden_layers", json!(3));
    assert_says(
        deeper.load(),
        &["backbone.layers.1.norm.weight is missing", "; and 12 more"],
    );
    assert_says(
        Tiny::new().set("use_bias", json!(true)).load(),
        &["in_proj.bias is missing", "out_proj.bias is missing"],
    );
}

#[test]
fn extra_tensors_are_a_warning() {
    let model = Tiny::new()
        .with("backbone.inv_freq", Part::constant(&[3], 1.0))
        .load()
        .unwrap();
    assert_eq!(model.warnings.len(), 1);
    assert!(
        model.warnings[0].contains("does not use: backbone.inv_freq."),
        "{:?}",
        model.warnings
    );
    let odd_dtype = Part {
        dtype: "I64",
        shape: vec![1],
        bytes: vec![0; 8],
    };
    assert_eq!(
        Tiny::new()
            .with("step", odd_dtype)
            .load()
            .unwrap()
            .warnings
            .len(),
        1
    );
}

#[test]
fn the_original_name_of_the_embedding_is_known() {
    let mut tiny = Tiny::new();
    let embedding = tiny.parts.remove(EMBEDDING).unwrap();
    let model = tiny
        .with("backbone.embedding.weight", embedding)
        .load()
        .unwrap();
    assert_eq!(model.warnings, [""; 0]);
    assert_eq!(model.embedding.shape(), [16, 8]);
}

/// A tiny checkpoint with the given tensors (all elements one value) for embedding and head.
fn with_pair(embedding: Option<f32>, head: Option<f32>, tied: bool) -> Model {
    let mut tiny = Tiny::new()
        .without(EMBEDDING)
        .set("tie_word_embeddings", json!(tied));
    for (name, value) in [(EMBEDDING, embedding), (HEAD, head)] {
        if let Some(value) = value {
            tiny = tiny.with(name, Part::constant(&[16, 8], value));
        }
    }
    tiny.load().unwrap()
}

#[test]
fn embedding_and_head_are_tied_by_what_is_there() {
    for tied in [false, true] {
        let same = with_pair(Some(1.0), Some(1.0), tied);
        assert!(same.head.is_none() && same.warnings.is_empty());

        let differ = with_pair(Some(1.0), Some(2.0), tied);
        assert_eq!(
            (differ.embedding.as_f32()[0], differ.head().as_f32()[0]),
            (1.0, 2.0)
        );
        assert_eq!(
            differ
                .warnings
                .iter()
                .any(|w| w.contains("asks for a tied head")),
            tied
        );

        for (embedding, head) in [(Some(3.0), None), (None, Some(3.0))] {
            let one = with_pair(embedding, head, tied);
            assert!(one.head.is_none());
            assert_eq!(
                (one.embedding.as_f32()[0], one.head().as_f32()[0]),
                (3.0, 3.0)
            );
            assert_eq!(
                one.warnings.iter().any(|w| w.contains("serves for both")),
                !tied
            );
        }
    }
}

#[test]
fn weights_that_are_not_finite_are_counted_and_named() {
    let name = "backbone.layers.0.mixer.A_log";
    let mut values = [0.5; 64];
    values[3] = f32::NAN;
    values[7] = f32::INFINITY;
    values[9] = f32::NEG_INFINITY;
    values[11] = f32::MAX;
    let model = Tiny::new()
        .with(name, Part::f32(&[16, 4], values))
        .load()
        .unwrap();
    assert_eq!(model.warnings.len(), 1);
    assert!(
        model.warnings[0].contains(&format!("{name}: 3 values are not finite")),
        "{:?}",
        model.warnings
    );

    for (dtype, bits, count) in [
        ("F16", 0x7c00, 64),
        ("F16", 0x7bff, 0),
        ("BF16", 0xff80, 64),
        ("BF16", 0x7f7f, 0),
    ] {
        let model = Tiny::new()
            .with(name, Part::half(dtype, &[16, 4], bits))
            .load()
            .unwrap();
        let said = model
            .warnings
            .iter()
            .any(|w| w.contains(&format!("{name}: {count} values")));
        assert_eq!(said, count > 0, "{dtype} {bits:x}: {:?}", model.warnings);
    }
}

// Weight files.

#[test]
fn damaged_weight_files_are_described() {
    let header = |text: &str, data: &[u8]| {
        tiny::load(&Tiny::new().config.to_string(), &file_of(text, data), None)
    };
    let raw = |bytes: &[u8]| tiny::load(&Tiny::new().config.to_string(), bytes, None);
    let again = "download it again";
    assert_says(
        raw(&[]),
        &[
            "model.safetensors",
            "the file has 0 bytes, wanted at least 8",
            again,
        ],
    );
    assert_says(raw(&[1, 2, 3]), &["the file has 3 bytes"]);
    assert_says(
        raw(&u64::MAX.to_le_bytes()),
        &["said to have 18446744073709551615 bytes, wanted at most 0"],
    );
    assert_says(
        raw(&[200_u64.to_le_bytes().as_slice(), b"{}"].concat()),
        &["said to have 200 bytes, wanted at most 2"],
    );
    assert_says(
        header("not json", &[]),
        &["the header is not valid JSON", again],
    );
    assert_says(header("[]", &[]), &["it is [], wanted an object"]);
    assert_says(header("\u{feff}{}", &[]), &["the header is not valid JSON"]);
    assert_says(
        raw(&[8_u64.to_le_bytes().as_slice(), &[0xff; 8]].concat()),
        &["the header is not valid JSON"],
    );
    assert_says(
        header("{}", &[]),
        &["backbone.embeddings.weight is missing"],
    );
    assert_says(
        header("{}", &[0; 4]),
        &["the tensors take 0 bytes, but the file has 4 behind its header"],
    );

    let mut whole = Tiny::new().weights();
    whole.pop();
    assert_says(raw(&whole), &["but the file has", again]);
}

#[test]
fn damaged_entries_are_described() {
    let entry = |text: &str, data: usize| {
        tiny::load(
            &Tiny::new().config.to_string(),
            &file_of(&format!(r#"{{"w": {text}}}"#), &vec![0; data]),
            None,
        )
    };
    let says = |text: &str, data: usize, needle: &str| {
        assert_says(entry(text, data), &["tensor \"w\"", needle])
    };
    says(
        r#"{"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}"#,
        4,
        "`dtype` is \"F99\", wanted a dtype",
    );
    says(
        r#"{"shape": [1], "data_offsets": [0, 4]}"#,
        4,
        "`dtype` is missing",
    );
    says("3", 0, "`dtype` is missing");
    says(
        r#"{"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}"#,
        4,
        "`shape` is [-1], wanted a list",
    );
    says(
        r#"{"dtype": "F32", "shape": 1, "data_offsets": [0, 4]}"#,
        4,
        "`shape` is 1",
    );
    says(
        r#"{"dtype": "F32", "shape": [1.5], "data_offsets": [0, 4]}"#,
        4,
        "`shape` is [1.5]",
    );
    says(
        r#"{"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}"#,
        4,
        "`data_offsets` is [4,0]",
    );
    says(
        r#"{"dtype": "F32", "shape": [1], "data_offsets": [0]}"#,
        4,
        "`data_offsets` is [0]",
    );
    says(
        r#"{"dtype": "F32", "shape": [1], "data_offsets": [0, 18446744073709551615]}"#,
        4,
        "a range inside the file",
    );
    says(
        r#"{"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}"#,
        4,
        "takes 8 bytes, but its offsets span 4",
    );
    says(
        r#"{"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}"#,
        8,
        "begins at byte 4 of the data, wanted 0",
    );
    let huge = r#"{"dtype": "F32", "shape": [4294967296, 4294967296, 4294967296], "data_offsets": [0, 4]}"#;
    says(huge, 4, "more elements than can be counted");
    let outside = r#"{"dtype": "F32", "shape": [250000], "data_offsets": [0, 1000000]}"#;
    assert_says(
        entry(outside, 4),
        &["the tensors take 1000000 bytes, but the file has 4"],
    );
    let overlap = r#"{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                      "b": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}"#;
    let overlap = tiny::load(
        &Tiny::new().config.to_string(),
        &file_of(overlap, &[0; 8]),
        None,
    );
    assert_says(
        overlap,
        &["tensor \"b\" begins at byte 4 of the data, wanted 8"],
    );
}

// Tokenizers beside weights.

#[test]
fn a_tokenizer_has_to_fit_the_vocabulary() {
    let with = |json: &str| {
        tiny::load(
            &Tiny::new().config.to_string(),
            &Tiny::new().weights(),
            Some(json),
        )
    };
    let model = with(&tokenizer_json(&[("i", 8)])).unwrap();
    assert_eq!(
        (model.tokenizer.unwrap().len(), model.warnings),
        (9, Vec::<String>::new())
    );
    let too_large = [
        "tokenizer.json",
        "largest token id is 16",
        "16 rows (ids 0 to 15)",
    ];
    assert_says(with(&tokenizer_json(&[("i", 16)])), &too_large);
    let small = Tiny::new()
        .set("vocab_size", json!(17))
        .with(EMBEDDING, Part::constant(&[17, 8], 0.0));
    let small = tiny::load(
        &small.config.to_string(),
        &small.weights(),
        Some(&tokenizer_json(&[])),
    )
    .unwrap();
    assert!(
        small.warnings[0].contains("tokenizer.json has 8 ids, less than half of the model's 17")
    );
    assert_says(
        with("{"),
        &["tokenizer.json: this is not a valid tokenizer"],
    );
    let unigram = r#"{"version": "1.0", "model": {"type": "Unigram", "vocab": [["a", 0.0]]}}"#;
    let model = with(unigram).unwrap();
    assert!(model.tokenizer.is_none());
    assert!(
        model.warnings[0].contains("not supported yet: a tokenizer with a model of type Unigram")
    );
}
