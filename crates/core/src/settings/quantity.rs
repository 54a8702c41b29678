//! Quantities as people write them: `80B` tokens, `1%`, `30m`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A count: `512`, `8k`, `4M`, `80B`, `1.5T`; multiples are decimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub u64);

/// Rows computed at once: as many as fit, or a count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rows {
    /// As many as fit.
    #[default]
    Auto,
    /// So many.
    Count(Count),
}

/// Bytes of memory: `70GiB`, `80GB`, `1.5TiB` or a whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// A share of a whole from 0 to 1: `0.01` or `1%`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Share(pub f64);

/// A part of a stage: optimizer steps (`200`), tokens (`50M tokens`) or a share of the stage (`1%`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Part {
    /// Optimizer steps.
    Steps(u64),
    /// Tokens.
    Tokens(u64),
    /// Share of the stage, 0 to 1.
    Share(f64),
}

/// How often something happens: every so many optimizer steps (`500`) or after so much time (`90s`, `30m`, `2h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    /// Every so many optimizer steps.
    Steps(u64),
    /// After so much time.
    Time(Duration),
}

/// A time: `90s`, `10m` or `2h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a count: write a whole number such as 512, 8k, 4M, 80B or 1.5T");
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit: u64 = match &text[digits.len()..] {
            "" => 1,
            "k" | "K" => 1_000,
            "M" => 1_000_000,
            "B" | "G" => 1_000_000_000,
            "T" => 1_000_000_000_000,
            _ => return Err(wrong()),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let number = |digits: &str| -> Option<u64> {
            let digits = digits.replace('_', "");
            if digits.is_empty() {
                None
            } else {
                digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
            }
        };
        let mut count = number(whole).and_then(|n| n.checked_mul(unit)).ok_or_else(wrong)?;
        if digits.contains('.') {
            // Exact: the digits after the point must make a whole number with the unit.
            let scale = 10_u64.checked_pow(fraction.len() as u32).ok_or_else(wrong)?;
            let part = number(fraction).and_then(|n| n.checked_mul(unit)).ok_or_else(wrong)?;
            if !part.is_multiple_of(scale) {
                return Err(wrong());
            }
            count = count.checked_add(part / scale).ok_or_else(wrong)?;
        }
        Ok(Self(count))
    }
}

impl FromStr for Rows {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        text.parse().map(Self::Count).map_err(|_| format!("`{text}` is neither auto nor a whole number such as 4"))
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a size: write bytes with their unit, such as 70GiB or 80GB");
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = &text[digits.len()..];
        let digits = digits.trim_end().replace('_', "");
        if let (Ok(bytes), "") = (digits.parse(), unit) {
            return Ok(Self(bytes));
        }
        let (_, bytes) = UNITS.into_iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let number: f64 = digits.parse().map_err(|_| wrong())?;
        let all = number * bytes as f64;
        // Beyond 2^53 a floating-point number no longer counts single bytes; no machine has as many.
        if (0.0..9e15).contains(&all) { Ok(Self(all.round() as u64)) } else { Err(wrong()) }
    }
}

/// Units of memory, the largest first.
const UNITS: [(&str, u64); 8] = [
    ("TiB", 1 << 40),
    ("TB", 1_000_000_000_000),
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("kB", 1_000),
];

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let share = match text.strip_suffix('%') {
            Some(percent) => percent.trim_end().parse::<f64>().map(|percent| percent / 100.0),
            None => text.parse::<f64>(),
        };
        match share {
            Ok(share) if (0.0..=1.0).contains(&share) => Ok(Self(share)),
            _ => Err(format!("`{text}` is not a share: write a number from 0 to 1, or a percentage such as 1%")),
        }
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is not a part of a stage: write steps (200), tokens (50M tokens) or a share (1%)");
        if text.ends_with('%') {
            return text.parse().map(|Share(share)| Self::Share(share)).map_err(|_| wrong());
        }
        let (number, unit) = text.split_once(' ').unwrap_or((text, "steps"));
        let Count(count) = number.parse().map_err(|_| wrong())?;
        match unit.trim() {
            "steps" | "step" => Ok(Self::Steps(count)),
            "tokens" => Ok(Self::Tokens(count)),
            _ => Err(wrong()),
        }
    }
}

impl FromStr for Interval {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not an interval: write steps (500) or a time (90s, 30m, 2h)");
        let text = text.trim_end_matches(" steps");
        match measure(text).ok_or_else(wrong)? {
            (number, None) => Ok(Self::Steps(number)),
            (number, Some(seconds)) => time(number, seconds).map(Self::Time).ok_or_else(wrong),
        }
    }
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = measure(text).and_then(|(number, seconds)| time(number, seconds?));
        found.map(Self).ok_or_else(|| format!("`{text}` is not a time: write a number with its unit (90s, 10m, 2h)"))
    }
}

/// A whole number above 0, and the seconds of the unit after it where there is one.
fn measure(text: &str) -> Option<(u64, Option<u64>)> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.replace('_', "").parse().ok().filter(|number| *number > 0)?;
    let seconds = match &text[digits.len()..] {
        "" => None,
        "s" => Some(1),
        "m" | "min" => Some(60),
        "h" => Some(3600),
        _ => return None,
    };
    Some((number, seconds))
}

/// So many units of so many seconds.
fn time(number: u64, seconds: u64) -> Option<Duration> {
    number.checked_mul(seconds).map(Duration::from_secs)
}

impl fmt::Display for Count {
    /// The largest unit that leaves a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(1_000_000_000_000, "T"), (1_000_000_000, "B"), (1_000_000, "M")];
        match units.into_iter().find(|(unit, _)| self.0 > 0 && self.0.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Display for Rows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Count(count) => count.fmt(f),
        }
    }
}

impl fmt::Display for Bytes {
    /// The largest unit that leaves a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.into_iter().find(|(_, bytes)| self.0 > 0 && self.0.is_multiple_of(*bytes)) {
            Some((unit, bytes)) => write!(f, "{}{unit}", self.0 / bytes),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(steps) => write!(f, "{steps}"),
            Self::Tokens(tokens) => write!(f, "{} tokens", Count(*tokens)),
            // Rounded so that 1% is written as 1%, not 1.0000000000000002%.
            Self::Share(share) => write!(f, "{}%", (share * 1e12).round() / 1e10),
        }
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(steps) => write!(f, "{steps}"),
            Self::Time(time) => write!(f, "{}s", time.as_secs()),
        }
    }
}

impl fmt::Display for Time {
    /// The largest unit that leaves a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            seconds if seconds.is_multiple_of(3600) => write!(f, "{}h", seconds / 3600),
            seconds if seconds.is_multiple_of(60) => write!(f, "{}m", seconds / 60),
            seconds => write!(f, "{seconds}s"),
        }
    }
}
