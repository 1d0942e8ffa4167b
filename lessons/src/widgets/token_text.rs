//! Tokens as a reader can see them: with their spaces, line ends and odd characters.

use std::borrow::Cow;

/// Stands for a space at the edge of a token.
const SPACE: char = '·';
/// Stands for the end of a line.
const LINE_END: char = '↵';

/// The token with its invisible characters made visible.
///
/// A space at either end becomes `·`, the end of a line `↵`, any other control character its escape.
pub fn visible_token(text: &str) -> Cow<'_, str> {
    if text.is_empty() {
        return Cow::Borrowed("∅");
    }
    let inner_start = text.len() - text.trim_start_matches(' ').len();
    let inner_end = text.trim_end_matches(' ').len();
    let plain = inner_start == 0
        && inner_end == text.len()
        && !text
            .chars()
            .any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER);
    if plain {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for (at, c) in text.char_indices() {
        match c {
            ' ' if at < inner_start || at >= inner_end => shown.push(SPACE),
            '\n' => shown.push(LINE_END),
            // A byte of a longer character: common in byte-level vocabularies.
            char::REPLACEMENT_CHARACTER => shown.push('¿'),
            c if c.is_control() => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::visible_token;

    #[test]
    fn the_invisible_is_shown() {
        let cases = [
            ("mamba", "mamba"),
            (" the", "·the"),
            ("  ", "··"),
            (" a b ", "·a b·"),
            (".\n\n", ".↵↵"),
            ("\t", "\\t"),
            ("", "∅"),
            ("\u{fffd}", "¿"),
            ("é", "é"),
        ];
        for (text, shown) in cases {
            assert_eq!(visible_token(text), shown);
        }
    }
}
