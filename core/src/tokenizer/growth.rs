//! How long the rules of a tokenizer can make a text, before any of them runs.
//!
//! A memory that runs out ends the program, and rules may multiply: forty times `a` → `aa` is 2⁴⁰ letters for one. So the
//! factors are multiplied from the file first, and what could outgrow [`MOST_GROWTH`] is refused.

use serde_json::Value;

/// The most bytes that may become of one byte of text. The boldest sensible rules reach 50: NFKC, lower case, byte level.
const MOST_GROWTH: f64 = 64.0;

/// Refuses rules that could make a text too long, naming what is wrong with them.
pub(super) fn check(normalizer: &Value, pre_tokenizer: &Value) -> Result<(), String> {
    let normalized = growth(normalizer, "normalizer", &NORMALIZERS)?;
    let growth = normalized * growth(pre_tokenizer, "pre-tokenizer", &PRE_TOKENIZERS)?;
    if growth <= MOST_GROWTH {
        Ok(())
    } else {
        Err(format!(
            "rules that can make a text more than {MOST_GROWTH} times as long"
        ))
    }
}

/// The steps of one kind.
struct Steps {
    /// The field of a `Sequence` that holds its steps.
    list: &'static str,
    /// Steps that do not depend on their settings, and the bytes each can make of one.
    fixed: &'static [(&'static str, f64)],
}

// Only types that the crate reads by their name: it takes a name it does not know for whatever the other fields fit.
// `Precompiled` is left out: its table can map a letter to anything.

const NORMALIZERS: Steps = Steps {
    list: "normalizers",
    fixed: &[
        ("Bert", 12.0),
        ("ByteLevel", 2.0),
        ("Lowercase", 1.5),
        ("NFC", 3.0),
        ("NFD", 3.0),
        ("NFKC", 11.0),
        ("NFKD", 11.0),
        ("Nmt", 1.0),
        ("Strip", 1.0),
        ("StripAccents", 1.0),
    ],
};

const PRE_TOKENIZERS: Steps = Steps {
    list: "pretokenizers",
    fixed: &[
        ("BertPreTokenizer", 1.0),
        // Two bytes for one, or three for a single letter that a space is put before.
        ("ByteLevel", 3.0),
        ("Delimiter", 1.0),
        ("Digits", 1.0),
        ("FixedLength", 1.0),
        // A character for each space, and one before each piece.
        ("Metaspace", 8.0),
        ("Punctuation", 1.0),
        ("Split", 1.0),
        ("UnicodeScripts", 1.0),
        ("Whitespace", 1.0),
        ("WhitespaceSplit", 1.0),
    ],
};

/// The most bytes `step` can make of one, however deep its sequences.
fn growth(step: &Value, kind: &str, steps: &Steps) -> Result<f64, String> {
    if step.is_null() {
        return Ok(1.0);
    }
    let Some(name) = step.get("type").and_then(Value::as_str) else {
        return Err(format!("a {kind} without a type"));
    };
    if name == "Sequence" {
        let inner = step.get(steps.list).and_then(Value::as_array);
        let inner = inner.ok_or_else(|| format!("a {kind} sequence without a list"))?;
        return inner.iter().try_fold(
            1.0,
            |product, step| Ok(product * growth(step, kind, steps)?),
        );
    }
    if let Some((_, factor)) = steps.fixed.iter().find(|(fixed, _)| *fixed == name) {
        return Ok(*factor);
    }
    let bytes = |field| step.get(field).and_then(Value::as_str).map(str::len);
    let factor = match name {
        "Prepend" => bytes("prepend").map(|added| 1.0 + added as f64),
        "Replace" => bytes("content").map(|content| replacing(step, content as f64)),
        _ => None,
    };
    factor.ok_or_else(|| {
        let shown: String = name.chars().take(40).collect();
        format!("a {kind} of type {shown}")
    })
}

/// What `Replace` makes of one byte: at most its content for each match.
fn replacing(step: &Value, content: f64) -> f64 {
    let pattern = step
        .pointer("/pattern/String")
        .and_then(Value::as_str)
        .map_or(0, str::len);
    if pattern > 0 {
        return (content / pattern as f64).max(1.0);
    }
    // An expression may match nothing at all: before each byte, and once more at the end.
    1.0 + 2.0 * content
}
