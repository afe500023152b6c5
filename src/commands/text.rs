//! Keys and values as text: escaped or hexadecimal, both ways.

use anyhow::{Context as _, bail};
use pinion_types::key::Escaped;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

/// How keys and values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Notation {
    /// As they are on the command line; escaped where they are printed, and in files.
    Plain,
    /// In hexadecimal, everywhere.
    Hex,
}

impl Notation {
    pub(crate) fn new(hex: bool) -> Self {
        if hex { Self::Hex } else { Self::Plain }
    }

    /// The bytes of a command line's argument.
    pub(crate) fn argument(self, text: &OsStr) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::Plain => Ok(text.as_bytes().to_vec()),
            Self::Hex => from_hex(text.as_bytes()),
        }
    }

    /// The bytes of a field of a file.
    pub(crate) fn field(self, text: &[u8]) -> anyhow::Result<Vec<u8>> {
        match self {
            Self::Plain => unescape(text),
            Self::Hex => from_hex(text),
        }
    }

    /// The bytes as text that `field` reads back.
    pub(crate) fn show(self, bytes: &[u8]) -> String {
        match self {
            Self::Plain => Escaped(bytes).to_string(),
            Self::Hex => bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}")),
        }
    }
}

fn from_hex(text: &[u8]) -> anyhow::Result<Vec<u8>> {
    let digits = str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let shown = Escaped(text);
    let digits = digits.with_context(|| format!("{shown:?} is not hexadecimal"))?;
    if !digits.len().is_multiple_of(2) {
        bail!("{shown:?} has an odd number of hexadecimal digits");
    }
    let pairs = (0..digits.len()).step_by(2);
    Ok(pairs.map(|start| u8::from_str_radix(&digits[start..start + 2], 16)).collect::<Result<_, _>>()?)
}

/// Reads what `Escaped` prints.
fn unescape(text: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'\\' {
            bytes.push(first);
            continue;
        }
        match rest {
            [b'\\', after @ ..] => {
                bytes.push(b'\\');
                rest = after;
            }
            [b'x', high, low, after @ ..] => {
                bytes.extend(from_hex(&[*high, *low])?);
                rest = after;
            }
            _ => bail!("{:?} has a backslash that is neither `\\\\` nor `\\xNN`", Escaped(text)),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_read_back_in_both_notations() {
        let bytes: Vec<u8> = (0..=255).collect();
        for notation in [Notation::Plain, Notation::Hex] {
            let shown = notation.show(&bytes);
            assert!(!shown.contains(['\t', '\n']));
            assert_eq!(notation.field(shown.as_bytes()).unwrap(), bytes);
        }
    }

    #[test]
    fn arguments_are_taken_as_they_are() {
        assert_eq!(Notation::Plain.argument(OsStr::new("a\\x00")).unwrap(), b"a\\x00");
        assert_eq!(Notation::Hex.argument(OsStr::new("6100")).unwrap(), b"a\x00");
    }

    #[test]
    fn what_is_no_notation_is_refused() {
        for text in ["a\\", "a\\n", "\\x4", "\\xzz"] {
            assert!(Notation::Plain.field(text.as_bytes()).is_err(), "{text}");
        }
        assert!(Notation::Hex.field(b"abc").is_err() && Notation::Hex.field("aü".as_bytes()).is_err());
    }
}
