//! What can go wrong with input from outside.

use core::fmt;

/// Bytes that do not decode. Nothing was changed; the sender made a mistake or the bytes are damaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DecodeError {
    /// The input ends inside a field.
    Truncated {
        /// Offset in bytes at which more input was needed.
        at: usize,
    },
    /// Bytes are left over behind the last field.
    Trailing {
        /// Offset in bytes of the first byte too many.
        at: usize,
    },
    /// A number stands above its bound.
    Limit {
        /// The field.
        what: &'static str,
        /// The offending number.
        value: u64,
        /// The greatest number allowed.
        bound: u64,
    },
    /// A field holds something that its format does not know.
    Invalid {
        /// The field.
        what: &'static str,
        /// Offset in bytes.
        at: usize,
    },
    /// The same content has a shorter or otherwise ordered form, and only that one is valid.
    NotCanonical {
        /// The field.
        what: &'static str,
        /// Offset in bytes.
        at: usize,
    },
    /// The format's version is one that this build does not know.
    Version {
        /// Version found.
        found: u8,
        /// Version known.
        known: u8,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { at } => write!(f, "input ends at byte {at}, inside a field"),
            Self::Trailing { at } => write!(f, "bytes are left over from byte {at} on"),
            Self::Limit { what, value, bound } => write!(f, "{what} is {value}, above the bound of {bound}"),
            Self::Invalid { what, at } => write!(f, "{what} at byte {at} is not valid"),
            Self::NotCanonical { what, at } => write!(f, "{what} at byte {at} is not in canonical form"),
            Self::Version { found, known } => {
                write!(f, "format version {found} is not known here, only {known}: upgrade this node")
            }
        }
    }
}

impl core::error::Error for DecodeError {}

/// A sum that left the range of i128. The state is as before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CounterOverflow;

impl fmt::Display for CounterOverflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the counter's sum leaves the range of 128-bit numbers; the increment was refused")
    }
}

impl core::error::Error for CounterOverflow {}
