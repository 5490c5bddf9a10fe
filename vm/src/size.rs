//! An amount of memory or disk, as people write it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Units by their first letter, with the power of two that each stands for.
const UNITS: [(char, u32); 5] = [('k', 10), ('m', 20), ('g', 30), ('t', 40), ('p', 50)];

/// A number of bytes. In files it is a plain number of bytes.
///
/// As text it is read the way Minikube and Docker read memory: every unit is binary, so `4g`,
/// `4gb`, `4Gi` and `4GiB` are all 4 × 2³⁰ bytes, in either case and with or without a space; a
/// number without a unit counts MiB. A decimal fraction is allowed (`1.5g`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Size(u64);

/// Why a text is not a size. The message says what would be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// The text is no number, or has an unknown unit.
    #[error("\"{text}\" is not a size; write for example 4g, 4096mb, 4Gi or 512m")]
    Malformed {
        /// The refused text.
        text: String,
    },
    /// The number does not fit 64 bits of bytes.
    #[error("\"{text}\" is too large a size")]
    TooLarge {
        /// The refused text.
        text: String,
    },
}

impl Size {
    /// A size in bytes.
    pub const fn from_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// A size in MiB (2²⁰ bytes); the largest one if that does not fit.
    pub const fn from_mib(mib: u64) -> Self {
        Self(mib.saturating_mul(1 << 20))
    }

    /// A size in GiB (2³⁰ bytes); the largest one if that does not fit.
    pub const fn from_gib(gib: u64) -> Self {
        Self(gib.saturating_mul(1 << 30))
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The size in whole MiB, rounded down.
    pub const fn mib(self) -> u64 {
        self.0 >> 20
    }
}

/// A whole number of MiB or GiB is written exactly (`3000 MiB`, `4 GiB`); anything else with one
/// decimal of the largest unit that fits (`13.4 GiB`).
impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [(&str, u32); 5] = [
            ("PiB", 50),
            ("TiB", 40),
            ("GiB", 30),
            ("MiB", 20),
            ("KiB", 10),
        ];
        let exact = NAMES[..4]
            .iter()
            .find(|(_, shift)| self.0 != 0 && self.0.trailing_zeros() >= *shift);
        let text = match exact {
            Some((name, shift)) => format!("{} {name}", self.0 >> shift),
            None => match NAMES.iter().find(|(_, shift)| self.0 >> shift > 0) {
                Some((name, shift)) => {
                    let tenths = (u128::from(self.0) * 10) >> shift;
                    format!("{}.{} {name}", tenths / 10, tenths % 10)
                }
                None => format!("{} B", self.0),
            },
        };
        f.pad(&text)
    }
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let malformed = || SizeError::Malformed {
            text: text.to_owned(),
        };
        let too_large = || SizeError::TooLarge {
            text: text.to_owned(),
        };
        let trimmed = text.trim();
        let end = trimmed
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(end);
        let shift = unit_shift(unit.trim_start()).ok_or_else(malformed)?;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() || fraction.contains('.') || fraction.len() > 9 || number.ends_with('.')
        {
            return Err(malformed());
        }
        let whole: u128 = whole.parse().map_err(|_| too_large())?;
        let mut bytes = whole.checked_mul(1 << shift).ok_or_else(too_large)?;
        if !fraction.is_empty() {
            let digits: u128 = fraction.parse().map_err(|_| malformed())?;
            bytes += (digits << shift)
                / 10_u128.pow(u32::try_from(fraction.len()).map_err(|_| malformed())?);
        }
        u64::try_from(bytes).map(Self).map_err(|_| too_large())
    }
}

/// The power of two that a unit stands for; none for an unknown unit.
fn unit_shift(unit: &str) -> Option<u32> {
    let unit = unit.to_ascii_lowercase();
    match unit.as_str() {
        "" => return Some(20),
        "b" => return Some(0),
        _ => {}
    }
    let mut letters = unit.chars();
    let first = letters.next()?;
    let (_, shift) = UNITS.iter().find(|(letter, _)| *letter == first)?;
    matches!(letters.as_str(), "" | "b" | "i" | "ib").then_some(*shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_minikube_reads_them() {
        let gib = 1_u64 << 30;
        for (text, bytes) in [
            ("4g", 4 * gib),
            ("4096mb", 4 * gib),
            ("4Gi", 4 * gib),
            ("4GiB", 4 * gib),
            ("4 GB", 4 * gib),
            ("20GB", 20 * gib),
            ("512m", gib / 2),
            ("4096", 4 * gib),
            (" 2g ", 2 * gib),
            ("1.5g", gib + gib / 2),
            ("0.25k", 256),
            ("1024b", 1024),
            ("1T", 1024 * gib),
            ("0", 0),
        ] {
            assert_eq!(text.parse::<Size>().map(Size::bytes), Ok(bytes), "{text:?}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "", "g", "-1g", "4x", "4gg", "1.2.3g", "4.", ".5g", "0x10", "1e3", "4 g b", "NaN", "+4",
        ] {
            assert!(
                matches!(text.parse::<Size>(), Err(SizeError::Malformed { .. })),
                "{text:?} was accepted"
            );
        }
        for text in ["99999999t", "99999999999999999999999999999999999999999999"] {
            assert!(
                matches!(text.parse::<Size>(), Err(SizeError::TooLarge { .. })),
                "{text:?}"
            );
        }
    }

    #[test]
    fn whole_sizes_are_written_exactly_and_read_back() {
        for (bytes, text) in [
            (4 << 30, "4 GiB"),
            (3000 << 20, "3000 MiB"),
            (250 << 20, "250 MiB"),
            (0, "0 B"),
            (999, "999 B"),
            ((13 << 30) + (410 << 20) + 5, "13.4 GiB"),
            (u64::MAX, "16383.9 PiB"),
        ] {
            assert_eq!(Size::from_bytes(bytes).to_string(), text);
        }
        assert_eq!(
            Size::from_mib(3000).to_string().parse(),
            Ok(Size::from_mib(3000))
        );
    }
}
