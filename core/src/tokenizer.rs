//! Text ↔ token ids, and what each id stands for.
//!
//! The work is done by Hugging Face's `tokenizers` crate; here stand the bounds around it, the bytes of every token,
//! and text that grows id by id without breaking a character apart.

mod growth;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

/// How [`Tokenizer::readable`] shows a space.
pub const SPACE: &str = "·";
/// How [`Tokenizer::readable`] shows a line feed.
pub const NEWLINE: &str = "↵";
/// How [`Tokenizer::readable`] shows a tab.
pub const TAB: &str = "→";
/// What [`Tokenizer::readable`] puts before bytes that are no character, in hexadecimal.
pub const BYTES_OPEN: &str = "‹";
/// What [`Tokenizer::readable`] puts after them.
pub const BYTES_CLOSE: &str = "›";

/// Bytes beyond which a `tokenizer.json` is not read; the largest known ones are half of it.
pub const MAX_TOKENIZER_BYTES: usize = 64 << 20;
/// Ids that may have no token for each one that has, and on top of that for any tokenizer: real ones leave few gaps.
const GAPS_PER_TOKEN: usize = 16;
const GAPS: usize = 1 << 16;

/// Why a tokenizer cannot be used.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum TokenizerError {
    /// More text than any tokenizer has.
    #[error(
        "the tokenizer has {found} bytes, wanted at most {MAX_TOKENIZER_BYTES}. Is it really a tokenizer.json?"
    )]
    TooLarge {
        /// Bytes there are.
        found: usize,
    },
    /// Not a tokenizer, or one that contradicts itself.
    #[error(
        "this is not a valid tokenizer: {reason}. Download it again, or remove it to work with token ids."
    )]
    Invalid {
        /// What is wrong with it.
        reason: String,
    },
    /// A tokenizer of a kind this program cannot show token by token.
    #[error("not supported yet: a tokenizer with {found}. Supported: byte-level BPE.")]
    Unsupported {
        /// What is not supported.
        found: String,
    },
    /// A text that could not be turned into ids.
    #[error("this text could not be turned into tokens: {reason}.")]
    Encode {
        /// What the tokenizer says.
        reason: String,
    },
}

/// A byte-level BPE tokenizer, as trained with the model.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// Bytes of each id; `None` where an id has no token.
    pieces: Vec<Option<Box<[u8]>>>,
    special: BTreeSet<u32>,
}

impl Tokenizer {
    /// Reads the text of a `tokenizer.json`.
    ///
    /// Truncation and padding it may ask for are left out: a prompt is encoded whole.
    ///
    /// # Errors
    /// When it is too large, not valid, or of another kind than byte-level BPE.
    pub fn from_json(json: &str) -> Result<Self, TokenizerError> {
        if json.len() > MAX_TOKENIZER_BYTES {
            return Err(TokenizerError::TooLarge { found: json.len() });
        }
        let invalid = |reason: String| TokenizerError::Invalid { reason };
        serde_json::from_str::<Outline>(json)
            .map_err(|e| invalid(e.to_string()))?
            .check()?;
        // The crate indexes without checks while it builds merges that contradict the vocabulary.
        let inner = catch_unwind(|| read(json))
            .map_err(|_| invalid("its vocabulary and merges contradict each other".into()))?
            .map_err(invalid)?;
        let (pieces, special) = tables(&inner)?;
        Ok(Self {
            inner,
            pieces,
            special,
        })
    }

    /// The ids of `text`; none are added, though a special token written out in the text becomes its id.
    ///
    /// # Errors
    /// When the tokenizer has no token for some of it, or a pattern of its own defeats it.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoded = catch_unwind(AssertUnwindSafe(|| self.inner.encode_fast(text, false)));
        let failed = |reason: String| TokenizerError::Encode { reason };
        let encoding = encoded
            .map_err(|_| failed("the tokenizer's own rules contradict each other".into()))?
            .map_err(|e| failed(e.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of `ids`, special tokens written out. Bytes that are no character become U+FFFD; ids without a token, nothing.
    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids
            .iter()
            .filter_map(|&id| self.bytes_of(id))
            .flatten()
            .copied()
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The bytes `id` stands for: for a special token its name, `None` for an id without a token.
    pub fn bytes_of(&self, id: u32) -> Option<&[u8]> {
        self.pieces.get(usize::try_from(id).ok()?)?.as_deref()
    }

    /// The largest id + 1.
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Whether there are no tokens at all.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether `id` is a marker, such as the end of a text, and not text.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// A token on its own, for a chip: white space made visible, bytes that are no character in hexadecimal.
    pub fn readable(&self, id: u32) -> String {
        self.bytes_of(id)
            .map_or_else(|| id_label(id), readable_bytes)
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Tokenizer {{ {} ids, {} special }}",
            self.len(),
            self.special.len()
        )
    }
}

/// What a chip shows for an id without a token, or for any id where there is no tokenizer.
pub fn id_label(id: u32) -> String {
    format!("#{id}")
}

/// Text that grows as ids arrive, in whole characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamDecoder {
    /// The beginning of a character that is not complete yet.
    held: Vec<u8>,
}

impl StreamDecoder {
    /// A decoder at the beginning of a text.
    pub fn new() -> Self {
        Self::default()
    }

    /// The text that `id` completes; empty while a character waits for more bytes.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        self.held
            .extend_from_slice(tokenizer.bytes_of(id).unwrap_or_default());
        let keep_from = self.held.len() - incomplete_tail(&self.held);
        let tail = self.held.split_off(keep_from);
        let text = String::from_utf8_lossy(&self.held).into_owned();
        self.held = tail;
        text
    }

    /// What is left at the end of a text: U+FFFD when a character was cut short, else nothing.
    pub fn flush(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.held).into_owned();
        self.held.clear();
        text
    }
}

/// Bytes at the end that may still become a character.
fn incomplete_tail(bytes: &[u8]) -> usize {
    let Some(last) = bytes.utf8_chunks().last() else {
        return 0;
    };
    let tail = last.invalid();
    match std::str::from_utf8(tail) {
        Err(e) if e.error_len().is_none() => tail.len(),
        _ => 0,
    }
}

/// What of a `tokenizer.json` decides whether it can be read at all.
#[derive(Deserialize)]
struct Outline {
    model: ModelOutline,
    #[serde(default)]
    decoder: Value,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
}

#[derive(Deserialize)]
struct ModelOutline {
    #[serde(rename = "type")]
    kind: Option<String>,
    dropout: Option<f64>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
}

impl Outline {
    fn check(&self) -> Result<(), TokenizerError> {
        let unsupported = |found: String| Err(TokenizerError::Unsupported { found });
        let model = &self.model;
        match model.kind.as_deref() {
            None | Some("BPE") => {}
            Some(other) => return unsupported(format!("a model of type {other}")),
        }
        if !is_byte_level(&self.decoder) {
            return unsupported("another decoder than ByteLevel".into());
        }
        if model.dropout.is_some_and(|p| p != 0.0) {
            return unsupported("dropout, which makes its ids random".into());
        }
        // Also a guard: the crate cuts a prefix off every merge without looking whether it is there.
        let affixes = [&model.continuing_subword_prefix, &model.end_of_word_suffix];
        if affixes.into_iter().flatten().any(|affix| !affix.is_empty()) {
            return unsupported("a subword prefix or suffix".into());
        }
        growth::check(&self.normalizer, &self.pre_tokenizer).or_else(unsupported)
    }
}

/// Whether a decoder is ByteLevel, or a sequence with one in it.
fn is_byte_level(decoder: &Value) -> bool {
    let is = |step: &Value| step.get("type").and_then(Value::as_str) == Some("ByteLevel");
    is(decoder)
        || decoder
            .get("decoders")
            .and_then(Value::as_array)
            .is_some_and(|steps| steps.iter().any(is))
}

fn read(json: &str) -> Result<tokenizers::Tokenizer, String> {
    let mut inner: tokenizers::Tokenizer =
        json.parse().map_err(|e: tokenizers::Error| e.to_string())?;
    inner.with_truncation(None).map_err(|e| e.to_string())?;
    inner.with_padding(None);
    // It only places special tokens, which are never asked for.
    inner.with_post_processor(None::<tokenizers::PostProcessorWrapper>);
    Ok(inner)
}

type Tables = (Vec<Option<Box<[u8]>>>, BTreeSet<u32>);

/// The bytes of every id, and which ids are special.
fn tables(inner: &tokenizers::Tokenizer) -> Result<Tables, TokenizerError> {
    let added = inner.get_added_tokens_decoder();
    let vocab = inner.get_vocab(true);
    let len = vocab
        .values()
        .max()
        .map_or(0, |&largest| largest as usize + 1);
    if len
        > vocab
            .len()
            .saturating_mul(GAPS_PER_TOKEN)
            .saturating_add(GAPS)
    {
        let reason = format!(
            "the largest id is {}, yet there are only {} tokens",
            len - 1,
            vocab.len()
        );
        return Err(TokenizerError::Invalid { reason });
    }
    let byte_of = byte_of_char();
    let mut pieces = vec![None; len];
    for (token, id) in &vocab {
        if let Some(piece) = pieces.get_mut(*id as usize) {
            *piece = Some(token_bytes(token, &byte_of));
        }
    }
    for (id, token) in &added {
        if let Some(piece) = pieces.get_mut(*id as usize) {
            *piece = Some(token.content.as_bytes().into());
        }
    }
    let special = added
        .iter()
        .filter(|(_, token)| token.special)
        .map(|(&id, _)| id)
        .collect();
    Ok((pieces, special))
}

/// The bytes a token of the vocabulary was written for; its own, if it was not written byte by byte.
fn token_bytes(token: &str, byte_of: &[Option<u8>]) -> Box<[u8]> {
    let bytes: Option<Box<[u8]>> = token
        .chars()
        .map(|c| byte_of.get(c as usize).copied().flatten())
        .collect();
    bytes.unwrap_or_else(|| token.as_bytes().into())
}

/// GPT-2's way to write any byte as a visible character, backwards: index is the character, value the byte.
///
/// Visible Latin-1 characters stand for their own byte; the other bytes, in order, for U+0100, U+0101, ….
fn byte_of_char() -> Vec<Option<u8>> {
    let visible = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut byte_of: Vec<_> = (0..=u8::MAX)
        .map(|byte| visible(byte).then_some(byte))
        .collect();
    byte_of.extend((0..=u8::MAX).filter(|&byte| !visible(byte)).map(Some));
    byte_of
}

/// Bytes as a reader can tell them apart.
fn readable_bytes(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut broken: Vec<String> = Vec::new();
    for chunk in bytes.utf8_chunks() {
        if !chunk.valid().is_empty() {
            push_bytes(&mut text, &mut broken);
            chunk
                .valid()
                .chars()
                .for_each(|c| push_visible(&mut text, c));
        }
        broken.extend(chunk.invalid().iter().map(|byte| format!("{byte:02X}")));
    }
    push_bytes(&mut text, &mut broken);
    text
}

/// Moves bytes that are no character to the text.
fn push_bytes(text: &mut String, broken: &mut Vec<String>) {
    if !broken.is_empty() {
        text.push_str(&format!("{BYTES_OPEN}{}{BYTES_CLOSE}", broken.join(" ")));
        broken.clear();
    }
}

fn push_visible(text: &mut String, c: char) {
    /// Marks that take no room: zero-width spaces and joiners, direction marks, the byte order mark, the soft hyphen.
    const INVISIBLE: [std::ops::RangeInclusive<char>; 5] = [
        '\u{AD}'..='\u{AD}',
        '\u{200B}'..='\u{200F}',
        '\u{202A}'..='\u{202E}',
        '\u{2060}'..='\u{2064}',
        '\u{FEFF}'..='\u{FEFF}',
    ];
    match c {
        ' ' => text.push_str(SPACE),
        '\n' => text.push_str(NEWLINE),
        '\t' => text.push_str(TAB),
        c if c.is_control()
            || c.is_whitespace()
            || INVISIBLE.iter().any(|range| range.contains(&c)) =>
        {
            text.push_str(&format!("{BYTES_OPEN}U+{:04X}{BYTES_CLOSE}", c as u32));
        }
        c => text.push(c),
    }
}
