//! Values of registers and cells.

use core::cmp::Ordering;
use core::fmt;
use std::sync::Arc;

/// Longest byte string in one value: 64 MiB, four times MariaDB's default `max_allowed_packet`.
pub const VALUE_BYTES_MAX: usize = 64 << 20;

/// A value that a register or a cell can hold. Two values are equal exactly when their bytes are.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// SQL's NULL.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number from -2^63 to 2^64 - 1.
    Integer(Integer),
    /// A number in IEEE 754-2019 total order with one NaN.
    Float(Float),
    /// Bytes, and text as its bytes: no collation is applied, so `a` and `A` differ. Shared, because the same content
    /// stands in the state, in what the database shows and in batches on their way.
    Bytes(Arc<[u8]>),
}

impl Value {
    /// A byte string.
    pub fn bytes(bytes: impl AsRef<[u8]>) -> Self {
        Self::Bytes(bytes.as_ref().into())
    }

    /// Bytes that the value itself takes, without any header of ours: what a user would call payload.
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::Null => 0,
            Self::Bool(_) => 1,
            Self::Integer(_) | Self::Float(_) => 8,
            Self::Bytes(bytes) => bytes.len(),
        }
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("NULL"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Integer(value) => write!(f, "{}", value.get()),
            Self::Float(value) => write!(f, "{}", value.get()),
            Self::Bytes(bytes) => write!(f, "\"{}\"", bytes.escape_ascii()),
        }
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Integer(value.into())
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Integer(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Float(value.into())
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::bytes(value)
    }
}

/// A whole number that is an i64 or a u64. One number has one form, so 5 as i64 equals 5 as u64.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Integer {
    negative: bool,
    /// The number itself where it is not negative, else its bits in two's complement.
    bits: u64,
}

impl Integer {
    /// The number.
    pub const fn get(self) -> i128 {
        if self.negative { (self.bits as i64) as i128 } else { self.bits as i128 }
    }

    /// The number, where it lies in -2^63 ..= 2^64 - 1.
    pub fn from_i128(number: i128) -> Option<Self> {
        u64::try_from(number).map(Self::from).or_else(|_| i64::try_from(number).map(Self::from)).ok()
    }
}

impl From<u64> for Integer {
    fn from(number: u64) -> Self {
        Self { negative: false, bits: number }
    }
}

impl From<i64> for Integer {
    fn from(number: i64) -> Self {
        Self { negative: number < 0, bits: number as u64 }
    }
}

impl PartialOrd for Integer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Integer {
    fn cmp(&self, other: &Self) -> Ordering {
        self.get().cmp(&other.get())
    }
}

impl fmt::Debug for Integer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.get())
    }
}

/// A floating-point number with total order: -0 before +0, and one NaN after everything.
#[derive(Clone, Copy)]
pub struct Float(f64);

impl Float {
    /// The one NaN: quiet, positive, without payload.
    const CANONICAL_NAN: f64 = f64::from_bits(0x7ff8_0000_0000_0000);

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }

    /// Bits that are equal exactly when the numbers are equal in total order.
    pub const fn to_bits(self) -> u64 {
        self.0.to_bits()
    }
}

impl From<f64> for Float {
    fn from(number: f64) -> Self {
        Self(if number.is_nan() { Self::CANONICAL_NAN } else { number })
    }
}

impl PartialEq for Float {
    fn eq(&self, other: &Self) -> bool {
        self.to_bits() == other.to_bits()
    }
}

impl Eq for Float {}

impl PartialOrd for Float {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Float {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl core::hash::Hash for Float {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        self.to_bits().hash(state);
    }
}

impl fmt::Debug for Float {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_has_one_form() {
        assert_eq!(Value::from(5_i64), Value::from(5_u64));
        assert_ne!(Value::from(-1_i64), Value::from(u64::MAX));
        assert!(Value::from(-1_i64) < Value::from(0_u64));
        assert_eq!(Integer::from_i128(i128::from(u64::MAX)).map(Integer::get), Some(u64::MAX.into()));
        assert_eq!(Integer::from_i128(i128::from(u64::MAX) + 1), None);
        assert_eq!(Integer::from_i128(i64::MIN.into()).map(Integer::get), Some(i64::MIN.into()));
    }

    #[test]
    fn floats_are_totally_ordered_with_one_nan() {
        let signalling = f64::from_bits(0xfff0_0000_0000_0001);
        assert_eq!(Value::from(f64::NAN), Value::from(signalling));
        assert!(Value::from(-0.0) < Value::from(0.0));
        assert!(Value::from(f64::INFINITY) < Value::from(f64::NAN));
    }
}
