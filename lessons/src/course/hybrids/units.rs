//! Large numbers for a person.

/// Bytes: "4 GiB", "16.63 MiB".
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
    format!("{} {unit}", three_digits(value))
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
    fn numbers_are_said_in_three_digits() {
        assert_eq!(bytes_text(4.0 * 1024f64.powi(3)), "4 GiB");
        assert_eq!(bytes_text(100.0), "100 B");
        assert_eq!(short_text(51_570_000_000.0), "51.6 billion");
        assert_eq!(power_text(100_000.0), "100k");
        assert_eq!(count_text(262_144.0), "262,144");
    }
}
