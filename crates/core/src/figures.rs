//! Numbers as people read them.

/// `1234567` as `1,234,567`.
#[must_use]
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A size in bytes as people write it, to three digits: `1.50 MB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    let units = ["kB", "MB", "GB", "TB", "PB"];
    let mut value = bytes as f64 / 1e3;
    let mut unit = 0;
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1e3;
        unit += 1;
    }
    let decimals = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
    format!("{value:.decimals$} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_as_people_write_them() {
        assert_eq!(
            ["7", "123", "1,234", "1,234,567"],
            [7, 123, 1234, 1_234_567].map(thousands).each_ref().map(String::as_str)
        );
        assert_eq!(["999 B", "1.50 kB", "41.3 MB"], [999, 1500, 41_335_867].map(size).each_ref().map(String::as_str));
    }
}
