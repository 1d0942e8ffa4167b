//! Tokenizers: the ids of Hugging Face's own package, the bytes of every id, and text in whole characters.
//!
//! `fixtures/tokenizer/ids.json` was written by the Python package `tokenizers` 0.23.3.

use std::fs;
use std::sync::Arc;

use mambascope_core::checkpoint::embedded;
use mambascope_core::tokenizer::{StreamDecoder, Tokenizer, TokenizerError, id_label};
use serde_json::{Value, json};

use crate::tiny::{fixture, tokenizer_json};

struct Golden {
    text: String,
    ids: Vec<u32>,
    decoded: String,
}

fn goldens(name: &str) -> Vec<Golden> {
    let text = fs::read_to_string(fixture("tokenizer/ids.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let string = |value: &Value| value.as_str().unwrap().to_owned();
    let golden = |one: &Value| Golden {
        text: string(&one["text"]),
        ids: one["ids"]
            .as_array()
            .unwrap()
            .iter()
            .map(|id| id.as_u64().unwrap() as u32)
            .collect(),
        decoded: string(&one["decoded"]),
    };
    all[name].as_array().unwrap().iter().map(golden).collect()
}

fn novel() -> Arc<Tokenizer> {
    embedded().unwrap().tokenizer.unwrap()
}

fn neox() -> Arc<Tokenizer> {
    let json = fs::read_to_string(fixture("tokenizer/gpt-neox-20b.json")).unwrap();
    Arc::new(Tokenizer::from_json(&json).unwrap())
}

fn both() -> [(&'static str, Arc<Tokenizer>); 2] {
    [("novel-mamba-3m", novel()), ("gpt-neox-20b", neox())]
}

#[test]
fn ids_and_text_are_those_of_the_python_package() {
    for (name, tokenizer) in both() {
        let goldens = goldens(name);
        assert!(goldens.len() > 20);
        for Golden { text, ids, decoded } in goldens {
            assert_eq!(tokenizer.encode(&text).unwrap(), ids, "{name}: {text:?}");
            assert_eq!(tokenizer.decode(&ids), decoded, "{name}: {text:?}");
        }
    }
}

#[test]
fn a_stream_gives_whole_characters_and_the_same_text() {
    for (name, tokenizer) in both() {
        for Golden { ids, decoded, .. } in goldens(name) {
            let mut stream = StreamDecoder::new();
            let pieces: Vec<String> = ids.iter().map(|&id| stream.push(&tokenizer, id)).collect();
            assert!(
                pieces.iter().all(|piece| !piece.contains('\u{fffd}')),
                "{name}: {pieces:?}"
            );
            assert_eq!(pieces.concat() + &stream.flush(), decoded, "{name}");
        }
    }
}

#[test]
fn a_stream_cut_short_or_garbled_ends_like_the_decoded_text() {
    let tokenizer = novel();
    // Ids of single bytes in an order that makes no sense; every prefix is a text cut short.
    let ids: Vec<u32> = tokenizer.encode("é日😀").unwrap();
    let garbled: Vec<u32> = ids.iter().rev().chain(&ids).copied().collect();
    for end in 0..=garbled.len() {
        let ids = &garbled[..end];
        let mut stream = StreamDecoder::new();
        let text: String = ids.iter().map(|&id| stream.push(&tokenizer, id)).collect();
        assert_eq!(text + &stream.flush(), tokenizer.decode(ids), "{ids:?}");
        assert_eq!(stream, StreamDecoder::new());
    }
}

#[test]
fn every_id_has_its_bytes() {
    let tokenizer = novel();
    assert_eq!(tokenizer.len(), 2048);
    let single: std::collections::BTreeSet<u8> = (0..2048)
        .filter_map(|id| tokenizer.bytes_of(id))
        .filter(|b| b.len() == 1)
        .map(|b| b[0])
        .collect();
    assert_eq!(single.len(), 256, "each byte is a token");
    assert_eq!(tokenizer.bytes_of(0), Some(b"<|endoftext|>".as_slice()));
    assert_eq!(tokenizer.bytes_of(2048), None);
    assert!(tokenizer.is_special(0) && !tokenizer.is_special(1) && !tokenizer.is_special(9999));

    let neox = neox();
    assert_eq!(neox.len(), 50277);
    assert!((0..50277).all(|id| neox.bytes_of(id).is_some()));
    assert_eq!(neox.bytes_of(50276), Some(b"  ".as_slice()));
    assert_eq!(neox.bytes_of(50254), Some(b" ".repeat(24).as_slice()));
    assert!(neox.is_special(0) && neox.is_special(1) && !neox.is_special(50276));
}

#[test]
fn chips_make_every_token_visible() {
    let tokenizer = neox();
    let chips = |text: &str| -> Vec<String> {
        tokenizer
            .encode(text)
            .unwrap()
            .into_iter()
            .map(|id| tokenizer.readable(id))
            .collect()
    };
    assert_eq!(chips("Hello world"), ["Hello", "·world"]);
    assert_eq!(chips("a\n\tb"), ["a", "↵", "→", "b"]);
    assert_eq!(chips("😀").concat(), "‹F0 9F›‹98›‹80›");
    assert_eq!(chips("\u{200b}\0").concat(), "‹U+200B›‹U+0000›");
    assert_eq!(tokenizer.readable(50279), "#50279");
    // As GPT-2 writes the bytes 98 80 and 41 98.
    let broken = tokenizer_json(&[("\u{13a}\u{122}", 8), ("A\u{13a}", 9)]);
    let broken = Tokenizer::from_json(&broken).unwrap();
    assert_eq!([8, 9].map(|id| broken.readable(id)), ["‹98 80›", "A‹98›"]);
    assert_eq!(id_label(7), "#7");
    let empty: Vec<u32> = (0..50277)
        .filter(|&id| tokenizer.readable(id).trim().is_empty())
        .collect();
    assert_eq!(empty, [0; 0]);
}

#[test]
fn truncation_and_padding_are_left_out() {
    let mut json: Value = serde_json::from_str(&tokenizer_json(&[])).unwrap();
    json["truncation"] =
        json!({"max_length": 2, "strategy": "LongestFirst", "stride": 0, "direction": "Right"});
    json["padding"] = json!({"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 7, "pad_type_id": 0, "pad_token": "h"});
    let tokenizer = Tokenizer::from_json(&json.to_string()).unwrap();
    assert_eq!(tokenizer.encode("abcd").unwrap(), [0, 1, 2, 3]);
}

/// What is said of the small tokenizer with one value replaced.
fn refusal(pointer: &str, value: Value) -> TokenizerError {
    let mut json: Value = serde_json::from_str(&tokenizer_json(&[])).unwrap();
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    json.pointer_mut(parent).unwrap()[key] = value;
    Tokenizer::from_json(&json.to_string()).unwrap_err()
}

#[test]
fn tokenizers_that_cannot_be_used_say_why() {
    let unsupported = |error: TokenizerError, found: &str| {
        assert_eq!(
            error,
            TokenizerError::Unsupported {
                found: found.into()
            }
        );
    };
    unsupported(
        refusal("/model/type", json!("WordPiece")),
        "a model of type WordPiece",
    );
    unsupported(
        refusal("/model/dropout", json!(0.1)),
        "dropout, which makes its ids random",
    );
    unsupported(
        refusal("/model/continuing_subword_prefix", json!("##")),
        "a subword prefix or suffix",
    );
    unsupported(
        refusal("/decoder", json!({"type": "Metaspace"})),
        "another decoder than ByteLevel",
    );
    unsupported(
        refusal("/decoder", Value::Null),
        "another decoder than ByteLevel",
    );

    let invalid = |error: TokenizerError, needle: &str| {
        let message = error.to_string();
        assert!(
            message.starts_with("this is not a valid tokenizer") && message.contains(needle),
            "{message}"
        );
    };
    invalid(refusal("/model", json!(3)), "invalid type");
    invalid(refusal("/model/vocab", json!({"a": -1})), "expected u32");
    invalid(
        refusal("/model/merges", json!([["a", "z"]])),
        "`z` out of vocabulary",
    );
    // Longer than every token of the vocabulary: the crate would index out of bounds.
    invalid(
        refusal("/model/merges", json!([["a", "b"]])),
        "contradict each other",
    );
    invalid(
        refusal("/model/vocab", json!({"a": 4_000_000_000_u32})),
        "the largest id is 4000000000",
    );
    let large = Tokenizer::from_json(&" ".repeat((64 << 20) + 1)).unwrap_err();
    assert!(
        large
            .to_string()
            .contains("67108865 bytes, wanted at most 67108864"),
        "{large}"
    );
}

/// The small tokenizer with these rules before its own.
fn with_rules(normalizer: Value, pre_tokenizer: Value) -> Result<Tokenizer, TokenizerError> {
    let mut json: Value = serde_json::from_str(&tokenizer_json(&[])).unwrap();
    json["normalizer"] = normalizer;
    json["pre_tokenizer"] = pre_tokenizer;
    Tokenizer::from_json(&json.to_string())
}

fn replace(pattern: Value, content: &str) -> Value {
    json!({"type": "Replace", "pattern": pattern, "content": content})
}

fn normalizers(steps: impl IntoIterator<Item = Value>) -> Value {
    json!({"type": "Sequence", "normalizers": steps.into_iter().collect::<Vec<_>>()})
}

#[test]
fn rules_that_could_fill_the_memory_are_refused() {
    let double = || replace(json!({"String": "a"}), "aa");
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    let metaspace =
        json!({"type": "Metaspace", "replacement": "a", "prepend_scheme": "always", "split": true});
    let nested = (0..40).fold(double(), |inner, _| normalizers([inner, double()]));
    let pre_tokenizers =
        |step: &Value| json!({"type": "Sequence", "pretokenizers": vec![step; 40]});
    let large = "a".repeat(1 << 20);
    for (normalizer, pre_tokenizer, found) in [
        (
            normalizers((0..40).map(|_| double())),
            Value::Null,
            "more than 64 times as long",
        ),
        (nested, Value::Null, "more than 64 times as long"),
        (
            replace(json!({"Regex": ""}), &large),
            Value::Null,
            "more than 64 times as long",
        ),
        (
            replace(json!({"String": ""}), &large),
            Value::Null,
            "more than 64 times as long",
        ),
        (
            replace(json!({"Regex": "a?"}), &"b".repeat(32)),
            Value::Null,
            "more than 64 times as long",
        ),
        (
            json!({"type": "Prepend", "prepend": large}),
            Value::Null,
            "more than 64 times as long",
        ),
        (
            normalizers((0..40).map(|_| json!({"type": "ByteLevel"}))),
            Value::Null,
            "more than 64 times as long",
        ),
        (
            Value::Null,
            pre_tokenizers(&byte_level),
            "more than 64 times as long",
        ),
        (
            Value::Null,
            pre_tokenizers(&metaspace),
            "more than 64 times as long",
        ),
        // Either list alone would pass.
        (
            replace(json!({"String": "a"}), &"b".repeat(30)),
            byte_level,
            "more than 64 times as long",
        ),
        (
            json!({"type": "Precompiled", "precompiled_charsmap": ""}),
            Value::Null,
            "a normalizer of type Precompiled",
        ),
        // The crate would take both for a sequence, by their field.
        (
            json!({"type": "BertNormalizer", "normalizers": vec![double(); 40]}),
            Value::Null,
            "a normalizer of type BertNormalizer",
        ),
        (
            json!({"normalizers": vec![double(); 40]}),
            Value::Null,
            "a normalizer without a type",
        ),
        (
            json!([["a", "aa"]]),
            Value::Null,
            "a normalizer without a type",
        ),
        (
            json!({"type": "Sequence"}),
            Value::Null,
            "a normalizer sequence without a list",
        ),
        (
            Value::Null,
            json!({"type": "Other"}),
            "a pre-tokenizer of type Other",
        ),
    ] {
        let error = with_rules(normalizer, pre_tokenizer).unwrap_err();
        assert!(
            matches!(&error, TokenizerError::Unsupported { found: why } if why.contains(found)),
            "{error}"
        );
    }
}

#[test]
fn usual_rules_are_kept() {
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let steps = [
        json!({"type": "NFKD"}),
        json!({"type": "Lowercase"}),
        json!({"type": "Strip", "strip_left": true, "strip_right": true}),
        json!({"type": "StripAccents"}),
        replace(json!({"String": "hh"}), "a"),
    ];
    let digits = json!({"type": "Digits", "individual_digits": true});
    let split = json!({"type": "Split", "pattern": {"Regex": "d"}, "behavior": "Isolated", "invert": false});
    let before = json!({"type": "Sequence", "pretokenizers": [digits, split, byte_level]});
    let tokenizer = with_rules(normalizers(steps), before).unwrap();
    assert_eq!(tokenizer.encode(" ÁBCDhh ").unwrap(), [0, 1, 2, 3, 0]);
    for (normalizer, ids) in [
        (json!({"type": "Prepend", "prepend": "h"}), vec![7, 0, 1]),
        (replace(json!({"Regex": "b+"}), "cc"), vec![0, 2, 2]),
        (json!({"type": "NFC"}), vec![0, 1]),
    ] {
        let tokenizer = with_rules(normalizer, byte_level.clone()).unwrap();
        assert_eq!(tokenizer.encode("ab").unwrap(), ids);
    }
}
