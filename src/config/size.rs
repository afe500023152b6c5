//! Sizes as people write them: `512M`, `64KiB`, `4096`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A number of bytes. Written with a suffix `K`, `M`, `G` or `T` (powers of 1024; `KiB` and `KB` mean the same), or none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Size(pub u64);

const SUFFIXES: [(char, u32); 4] = [('T', 40), ('G', 30), ('M', 20), ('K', 10)];

impl Size {
    /// The number of bytes as an index into memory.
    pub fn bytes(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused =
            || format!("{text:?} is not a size: write a number of bytes, or one with K, M, G or T (512M)");
        let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, suffix) = text.split_at(digits_end);
        let number: u64 = digits.parse().map_err(|_| refused())?;
        let suffix = suffix.trim().to_ascii_uppercase();
        let shift = match suffix.strip_suffix("IB").or(suffix.strip_suffix('B')).unwrap_or(&suffix) {
            "" => 0,
            letter => SUFFIXES.iter().find(|(name, _)| letter == name.to_string()).ok_or_else(refused)?.1,
        };
        number.checked_mul(1 << shift).map(Self).ok_or_else(refused)
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Size> for String {
    fn from(size: Size) -> Self {
        size.to_string()
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (letter, shift) in SUFFIXES {
            if self.0 > 0 && self.0.is_multiple_of(1 << shift) {
                return write!(f, "{}{letter}", self.0 >> shift);
            }
        }
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_and_print_alike() {
        for (text, bytes) in [("512M", 512 << 20), ("4096", 4096), ("1GiB", 1 << 30), ("3kb", 3072), ("0", 0)]
        {
            let size: Size = text.parse().unwrap();
            assert_eq!(size, Size(bytes), "{text}");
            assert_eq!(size.to_string().parse::<Size>().unwrap(), size);
        }
        assert_eq!(Size(512 << 20).to_string(), "512M");
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "M", "5X", "-1", "1.5G", "99999999999999T", "5MM"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
