//! Large numbers for a person.

/// Bytes: "4 GiB", "16.63 MiB", "263.5 MiB".
pub fn bytes_text(bytes: f64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    let decimals = if value >= 100.0 { 1 } else { 2 };
    let said = format!("{value:.decimals$}");
    let said = said.trim_end_matches('0').trim_end_matches('.');
    format!("{said} {unit}")
}

/// A count in words: "51.6 billion".
pub fn short_text(count: f64) -> String {
    const UNITS: [&str; 5] = ["", " thousand", " million", " billion", " trillion"];
    let mut value = count;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1000.0 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    format!("{}{unit}", three_digits(value))
}

/// A power of ten for an axis: "100", "10k", "1M".
pub fn power_text(count: f64) -> String {
    if count >= 1e6 {
        format!("{:.0}M", count / 1e6)
    } else if count >= 1e3 {
        format!("{:.0}k", count / 1e3)
    } else {
        format!("{count:.0}")
    }
}

/// A whole number, its thousands apart.
pub fn count_text(count: f64) -> String {
    let digits = format!("{count:.0}");
    let mut said = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            said.push(',');
        }
        said.push(digit);
    }
    said
}

/// A ratio: "12", "0.25", "0.0312".
pub fn ratio_text(ratio: f64) -> String {
    if ratio >= 10.0 {
        format!("{ratio:.0}")
    } else if ratio >= 0.1 {
        format!("{ratio:.2}")
    } else {
        format!("{ratio:.4}")
    }
}

/// A number of tokens that need not be whole.
pub fn tokens_text(tokens: f64) -> String {
    if tokens.fract() == 0.0 || tokens >= 1000.0 {
        count_text(tokens)
    } else {
        format!("{tokens:.1}")
    }
}

/// Three digits or a little more, without zeros at the end.
fn three_digits(value: f64) -> String {
    let decimals = if value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    let said = format!("{value:.decimals$}");
    if said.contains('.') {
        said.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_said_to_the_hundredth_of_a_unit_or_the_tenth() {
        assert_eq!(bytes_text(0.0), "0 B");
        assert_eq!(bytes_text(2_801_664.0), "2.67 MiB");
        assert_eq!(bytes_text(36.0 * 1024.0), "36 KiB");
        assert_eq!(bytes_text(263.5 * 1_048_576.0), "263.5 MiB");
    }

    #[test]
    fn numbers_are_said_in_three_digits() {
        assert_eq!(bytes_text(4.0 * 1024f64.powi(3)), "4 GiB");
        assert_eq!(bytes_text(100.0), "100 B");
        assert_eq!(short_text(51_570_000_000.0), "51.6 billion");
        assert_eq!(power_text(100_000.0), "100k");
        assert_eq!(count_text(262_144.0), "262,144");
        assert_eq!(tokens_text(76.0), "76");
        assert_eq!(tokens_text(4.84), "4.8");
        assert_eq!(ratio_text(0.25), "0.25");
    }
}
