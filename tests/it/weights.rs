//! Weights: what each tensor, header or tokenizer that does not fit is answered with, and what is only a warning.

use mambascope_core::model::Model;
use serde_json::json;

use crate::tiny::{self, Part, Tiny, assert_says, file_of, tokenizer_json};

const EMBEDDING: &str = "backbone.embeddings.weight";
const HEAD: &str = "lm_head.weight";

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
        &[name, "has dtype I32, wanted F32, F16, BF16 or F64"],
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
    let one = r#"{"dtype":"F32","shape":[1],"data_offsets":[0,4]}"#;
    assert_says(
        header(
            &format!(r#"{{"v":{one},"w":{one},"\u0077":{one}}}"#),
            &[0; 4],
        ),
        &["tensor \"w\" is listed twice"],
    );
    assert_says(
        raw(&[8_u64.to_le_bytes().as_slice(), &[0xff; 8]].concat()),
        &["the header is not valid JSON"],
    );
    assert_says(
        header("{}", &[]),
        &["backbone.norm_f.weight is missing, wanted shape [8]"],
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
