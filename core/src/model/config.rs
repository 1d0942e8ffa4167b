//! `config.json`: the sizes and rules of a model, each checked before anything is built from it.

use std::borrow::Cow;

use serde_json::{Map, Value};
use thiserror::Error;

use super::dims::BlockDims;
use super::table::{self, FAMILIES};

/// Bytes beyond which a `config.json` is not read: real ones are a few kilobytes.
pub const MAX_CONFIG_BYTES: usize = 4 << 20;
/// The largest size (width, vocabulary, state, …) taken seriously.
pub const MAX_SIZE: usize = 1 << 24;
/// The most blocks taken seriously.
pub const MAX_LAYERS: usize = 4096;

/// The most experts a feed-forward part is believed to have.
pub const MAX_EXPERTS: usize = 1024;

/// The most bytes a state of fixed size may take: a model of 70 billion weights has less.
pub const MAX_STATE_BYTES: u128 = 1 << 30;

/// What every family shares, and the sizes of each block.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Which family the model belongs to.
    pub family: super::Family,
    /// Rows of the embedding (already padded in Hugging Face files).
    pub vocab_size: usize,
    /// Width of the residual stream, `e`.
    pub d_model: usize,
    /// ε of the block norms and the last norm.
    pub norm_eps: f32,
    /// Whether the configuration (or its default) asks for a tied head.
    pub tied: bool,
    /// Ids that end a text.
    pub eos: Vec<u32>,
    /// One a block, in order.
    pub blocks: Vec<BlockDims>,
}

/// Why a configuration cannot be used. Each says what was found, what was wanted, and what to do.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    /// More text than any configuration has.
    #[error(
        "the configuration has {found} bytes, wanted at most {MAX_CONFIG_BYTES}. Is it really a config.json?"
    )]
    TooLarge {
        /// Bytes there are.
        found: usize,
    },
    /// Not JSON at all.
    #[error("this is not valid JSON: {reason}. Correct the file, or download it again.")]
    Json {
        /// What the parser says, with line and column.
        reason: String,
    },
    /// JSON, but a list or a bare value.
    #[error(
        "the configuration is {found}, wanted a JSON object. Correct the file, or download it again."
    )]
    NotAnObject {
        /// The value there is, shortened.
        found: String,
    },
    /// A model this program cannot run.
    #[error("not supported yet: {found}. Supported: {}.", table::supported())]
    Unsupported {
        /// The `model_type`, or the architecture, found.
        found: String,
    },
    /// Nothing says which family the model belongs to.
    #[error(
        "`model_type` is missing, wanted one of: {}. Add it, or download the checkpoint again.",
        table::supported()
    )]
    NoModelType,
    /// A state that no model has: weights may be few and their state huge.
    #[error(
        "the state of this model would take {found} bytes, wanted at most {MAX_STATE_BYTES}. Its channels and its slots multiply. \
         {CORRECT_IT}"
    )]
    State {
        /// Bytes of hidden states and convolution windows, all blocks together.
        found: u128,
    },
    /// A key with a value that cannot be.
    #[error("`{key}` is {found}, wanted {wanted}. {advice}")]
    Field {
        /// The key of `config.json`.
        key: &'static str,
        /// Its value, shortened.
        found: String,
        /// What would have been accepted.
        wanted: String,
        /// What to do about it.
        advice: &'static str,
    },
}

const CORRECT_IT: &str = "Correct config.json, or download the checkpoint again.";

impl Config {
    /// Reads the text of a `config.json`, with Hugging Face's defaults for the keys that are absent.
    ///
    /// Unknown keys are ignored, and so is a bare `Infinity` or `NaN` in one of them, which transformers 4 wrote.
    ///
    /// # Errors
    /// When the text is no JSON object, the family is not supported, or a size is not one.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        if text.len() > MAX_CONFIG_BYTES {
            return Err(ConfigError::TooLarge { found: text.len() });
        }
        let text = tag_bare_floats(text.trim_start_matches('\u{feff}'));
        let value = serde_json::from_str(&text).map_err(|e| ConfigError::Json {
            reason: e.to_string(),
        })?;
        let Value::Object(keys) = value else {
            return Err(ConfigError::NotAnObject {
                found: shown(&value),
            });
        };
        let keys = Keys(keys);
        let read = keys.reader()?;
        let config = read(&keys)?;
        let found = config.state_bytes();
        if found > MAX_STATE_BYTES {
            return Err(ConfigError::State { found });
        }
        Ok(config)
    }

    /// Bytes of what a session remembers before the first token.
    fn state_bytes(&self) -> u128 {
        let scans = self
            .blocks
            .iter()
            .filter_map(|block| block.mixer.recurrent());
        let values = scans.map(|dims| {
            dims.d_inner as u128 * dims.d_state as u128
                + dims.conv_channels as u128 * dims.d_conv as u128
        });
        values.sum::<u128>() * size_of::<f32>() as u128
    }

    /// Whether some block has a hidden state: a Transformer has none.
    pub fn has_scans(&self) -> bool {
        let mut blocks = self.blocks.iter();
        blocks.any(|block| block.mixer.recurrent().is_some())
    }

    /// Number of blocks.
    pub fn n_layers(&self) -> usize {
        self.blocks.len()
    }
}

/// Turns the keys of one family's `config.json` into a configuration.
pub(super) type Reader = fn(&Keys) -> Result<Config, ConfigError>;

/// The keys of a `config.json`, read one by one with the checks every family needs.
pub(super) struct Keys(Map<String, Value>);

impl Keys {
    /// What reads the other keys: by `model_type`, by `architectures` where that is missing, or by the keys of the original code.
    fn reader(&self) -> Result<Reader, ConfigError> {
        match self.present("model_type") {
            Some(Value::String(found)) => FAMILIES
                .iter()
                .find(|entry| entry.model_type == found)
                .map(|entry| entry.config)
                .ok_or_else(|| ConfigError::Unsupported {
                    found: short(found),
                }),
            Some(other) => Err(wrong("model_type", other, "the name of a family, as text")),
            None => self.reader_by_architecture(),
        }
    }

    fn reader_by_architecture(&self) -> Result<Reader, ConfigError> {
        let names = self
            .present("architectures")
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        let known = |name: &Value| {
            FAMILIES
                .iter()
                .find(|entry| name.as_str() == Some(entry.architecture))
        };
        if let Some(entry) = names.iter().find_map(known) {
            return Ok(entry.config);
        }
        if self.0.contains_key("ssm_cfg")
            || (self.0.contains_key("d_model") && self.0.contains_key("n_layer"))
        {
            return Ok(table::original_config);
        }
        match names.first() {
            Some(name) => Err(ConfigError::Unsupported { found: shown(name) }),
            None => Err(ConfigError::NoModelType),
        }
    }

    /// The value of `key`, `null` counting as absent.
    fn present(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// A whole number from 1 to `max`, or `default` when the key is absent.
    pub(super) fn size(
        &self,
        key: &'static str,
        default: usize,
        max: usize,
    ) -> Result<usize, ConfigError> {
        self.0
            .get(key)
            .map_or(Ok(default), |value| whole(key, value, max, ""))
    }

    /// As [`Self::size`], where absent or `null` leaves the choice to the caller.
    pub(super) fn optional_size(
        &self,
        key: &'static str,
        max: usize,
    ) -> Result<Option<usize>, ConfigError> {
        self.present(key)
            .map(|value| whole(key, value, max, ""))
            .transpose()
    }

    /// As [`Self::size`], where absent or the text "auto" takes the value of `auto`.
    pub(super) fn auto_size(
        &self,
        key: &'static str,
        auto: usize,
        max: usize,
    ) -> Result<usize, ConfigError> {
        match self.0.get(key) {
            None => Ok(auto),
            Some(Value::String(text)) if text == "auto" => Ok(auto),
            Some(value) => whole(key, value, max, "\"auto\" or "),
        }
    }

    /// As [`Self::size`], where 0 counts too.
    pub(super) fn count(
        &self,
        key: &'static str,
        default: usize,
        max: usize,
    ) -> Result<usize, ConfigError> {
        let Some(value) = self.0.get(key) else {
            return Ok(default);
        };
        let count = value.as_u64().and_then(|count| usize::try_from(count).ok());
        count
            .filter(|count| *count <= max)
            .ok_or_else(|| wrong(key, value, format!("a whole number from 0 to {max}")))
    }

    /// The keys of an object under `key`; none where it is absent or `null`.
    pub(super) fn object(&self, key: &'static str) -> Result<Keys, ConfigError> {
        match self.present(key) {
            None => Ok(Keys(Map::new())),
            Some(Value::Object(keys)) => Ok(Keys(keys.clone())),
            Some(other) => Err(wrong(key, other, "an object")),
        }
    }

    /// Whether there is nothing under `key`, not even `null`.
    pub(super) fn is_absent(&self, key: &str) -> bool {
        !self.0.contains_key(key)
    }

    /// A text under `key`.
    pub(super) fn text<'a>(
        &'a self,
        key: &'static str,
        default: &'a str,
    ) -> Result<&'a str, ConfigError> {
        match self.present(key) {
            None => Ok(default),
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(wrong(key, other, "a text")),
        }
    }

    /// A list under `key`; empty where it is absent or `null`.
    pub(super) fn list(&self, key: &'static str) -> Result<&[Value], ConfigError> {
        match self.present(key) {
            None => Ok(&[]),
            Some(Value::Array(values)) => Ok(values),
            Some(other) => Err(wrong(key, other, "a list")),
        }
    }

    /// Two numbers, the first not above the second, the second possibly infinite in any of its spellings.
    pub(super) fn limits(
        &self,
        key: &'static str,
        default: (f32, f32),
    ) -> Result<(f32, f32), ConfigError> {
        let Some(value) = self.present(key) else {
            return Ok(default);
        };
        let pair = value.as_array().map(Vec::as_slice);
        let (low, high) = match pair {
            Some([low, high]) => (float(low), float(high)),
            _ => (None, None),
        };
        match (low, high) {
            (Some(low), Some(high)) if low.is_finite() && low <= high => Ok((low, high)),
            _ => Err(wrong(
                key,
                value,
                "two numbers, the first finite and not above the second",
            )),
        }
    }

    /// Refuses a key that asks for something this program does not run.
    pub(super) fn refuse(&self, key: &'static str, wanted: &str) -> ConfigError {
        ConfigError::Field {
            key,
            found: self.0.get(key).map_or_else(|| "missing".into(), shown),
            wanted: wanted.into(),
            advice: "Other values are not supported yet.",
        }
    }

    /// Refuses a size that does not go with the others; `in_force` is its value, written or by default.
    pub(super) fn contradiction(
        &self,
        key: &'static str,
        in_force: usize,
        wanted: String,
    ) -> ConfigError {
        let found = match self.present(key) {
            Some(value) => shown(value),
            None => format!("{in_force} (by default)"),
        };
        ConfigError::Field {
            key,
            found,
            wanted,
            advice: CORRECT_IT,
        }
    }

    /// A finite number above zero and at most `max`.
    pub(super) fn positive(
        &self,
        key: &'static str,
        default: f64,
        max: f64,
    ) -> Result<f64, ConfigError> {
        let Some(value) = self.0.get(key) else {
            return Ok(default);
        };
        // What is not zero as f64 may be as f32, the precision it is used in.
        let fits = |x: &f64| (*x as f32) > 0.0 && *x <= max;
        value
            .as_f64()
            .filter(fits)
            .ok_or_else(|| wrong(key, value, format!("a number above 0 and at most {max}")))
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, key: &'static str, default: bool) -> Result<bool, ConfigError> {
        let Some(value) = self.0.get(key) else {
            return Ok(default);
        };
        value
            .as_bool()
            .ok_or_else(|| wrong(key, value, "true or false"))
    }

    /// A text out of a few.
    pub(super) fn one_of(&self, key: &'static str, accepted: &[&str]) -> Result<(), ConfigError> {
        let Some(value) = self.0.get(key) else {
            return Ok(());
        };
        if value.as_str().is_some_and(|text| accepted.contains(&text)) {
            return Ok(());
        }
        let found = shown(value);
        let wanted = accepted
            .iter()
            .map(|text| format!("{text:?}"))
            .collect::<Vec<_>>()
            .join(" or ");
        Err(ConfigError::Field {
            key,
            found,
            wanted,
            advice: "Other values are not supported yet.",
        })
    }

    /// Token ids: one, a list, or none.
    pub(super) fn ids(&self, key: &'static str, default: u32) -> Result<Vec<u32>, ConfigError> {
        let id = |value: &Value| {
            let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
            id.ok_or_else(|| wrong(key, value, "a token id, a list of them, or null"))
        };
        match self.0.get(key) {
            None => Ok(vec![default]),
            Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(values)) => values.iter().map(id).collect(),
            Some(value) => Ok(vec![id(value)?]),
        }
    }
}

/// A number, or one of the spellings of infinity: transformers 5's tag, and the text.
fn float(value: &Value) -> Option<f32> {
    let named = value.get("__float__").or(Some(value));
    match named.and_then(Value::as_str) {
        Some("Infinity" | "inf") => Some(f32::INFINITY),
        Some(_) => None,
        None => value.as_f64().map(|x| x as f32),
    }
}

/// A size that follows from others, refused like one that was written.
pub(super) fn derived_size(key: &'static str, size: f64, from: &str) -> Result<usize, ConfigError> {
    if size >= 1.0 && size <= MAX_SIZE as f64 {
        return Ok(size as usize);
    }
    let found = format!("{size} (from {from})");
    Err(ConfigError::Field {
        key,
        found,
        wanted: format!("1 to {MAX_SIZE}"),
        advice: CORRECT_IT,
    })
}

fn whole(key: &'static str, value: &Value, max: usize, or: &str) -> Result<usize, ConfigError> {
    let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
    let fits = |size: &usize| (1..=max).contains(size);
    size.filter(fits)
        .ok_or_else(|| wrong(key, value, format!("{or}a whole number from 1 to {max}")))
}

fn wrong(key: &'static str, value: &Value, wanted: impl Into<String>) -> ConfigError {
    ConfigError::Field {
        key,
        found: shown(value),
        wanted: wanted.into(),
        advice: CORRECT_IT,
    }
}

/// A value as an error shows it: its JSON, shortened, and a tagged float by its name.
fn shown(value: &Value) -> String {
    match value.get("__float__").and_then(Value::as_str) {
        Some(name) => short(name),
        None => match value {
            Value::Array(_) => "a list".into(),
            Value::Object(_) => "an object".into(),
            other => short(&other.to_string()),
        },
    }
}

fn short(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.into(),
    }
}

/// Writes each bare `Infinity`, `-Infinity` and `NaN` outside of strings the way transformers 5 does: as an object that names it.
///
/// Python's json module writes them bare, which is not JSON.
fn tag_bare_floats(text: &str) -> Cow<'_, str> {
    const WORDS: [&str; 3] = ["-Infinity", "Infinity", "NaN"];
    if !WORDS.iter().any(|word| text.contains(word)) {
        return Cow::Borrowed(text);
    }
    let mut tagged = String::with_capacity(text.len());
    let mut rest = text;
    let (mut in_string, mut escaped) = (false, false);
    while let Some(c) = rest.chars().next() {
        if !in_string && let Some(word) = WORDS.iter().find(|word| rest.starts_with(**word)) {
            tagged.push_str(&format!("{{\"__float__\":\"{word}\"}}"));
            rest = rest.get(word.len()..).unwrap_or_default();
            continue;
        }
        if c == '"' && !escaped {
            in_string = !in_string;
        }
        escaped = in_string && c == '\\' && !escaped;
        tagged.push(c);
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
    }
    Cow::Owned(tagged)
}

#[cfg(test)]
mod tests {
    use super::tag_bare_floats;

    #[test]
    fn bare_floats_are_tagged_outside_of_strings_only() {
        let text =
            r#"{"a": [0.0, Infinity], "NaN \" Infinity": "-Infinity", "b": -Infinity, "c\\": NaN}"#;
        let wanted = r#"{"a": [0.0, {"__float__":"Infinity"}], "NaN \" Infinity": "-Infinity", "b": {"__float__":"-Infinity"}, "c\\": {"__float__":"NaN"}}"#;
        assert_eq!(tag_bare_floats(text), wanted);
    }
}
