//! Keys of rows as bytes whose order is the order of the database.
//!
//! A key is the columns' values one after the other. A number takes eight bytes, big endian. Bytes (text too: no
//! collation is applied) stand as they are where they end the key; before another column each zero is followed by
//! `FF` and two zeros end them, so that byte order is the order of the columns one by one.

use crdt::Value;
use crdt::value::Integer;

/// How one column of a key is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyPart {
    /// A whole number that is not negative.
    Number,
    /// Text or bytes.
    Bytes,
}

/// Writes a key. `None` when a value does not fit its column: a NULL, or a negative number.
pub fn encode(parts: &[KeyPart], values: &[Value]) -> Option<Box<[u8]>> {
    debug_assert_eq!(parts.len(), values.len());
    let mut key = Vec::new();
    for (at, (part, value)) in parts.iter().zip(values).enumerate() {
        match (part, value) {
            (KeyPart::Number, Value::Integer(number)) => {
                key.extend_from_slice(&u64::try_from(number.get()).ok()?.to_be_bytes());
            }
            (KeyPart::Bytes, Value::Bytes(bytes)) if at + 1 == parts.len() => key.extend_from_slice(bytes),
            (KeyPart::Bytes, Value::Bytes(bytes)) => {
                for byte in bytes.iter() {
                    key.push(*byte);
                    if *byte == 0 {
                        key.push(0xFF);
                    }
                }
                key.extend([0, 0]);
            }
            _ => return None,
        }
    }
    Some(key.into())
}

/// Reads a key. `None` for bytes that are no key of this form: a peer may have another one.
pub fn decode(parts: &[KeyPart], mut key: &[u8]) -> Option<Vec<Value>> {
    let mut values = Vec::with_capacity(parts.len());
    for (at, part) in parts.iter().enumerate() {
        match part {
            KeyPart::Number => {
                let (number, rest) = key.split_first_chunk::<8>()?;
                values.push(Value::Integer(Integer::from(u64::from_be_bytes(*number))));
                key = rest;
            }
            KeyPart::Bytes if at + 1 == parts.len() => {
                values.push(Value::bytes(key));
                key = &[];
            }
            KeyPart::Bytes => {
                let mut bytes = Vec::new();
                loop {
                    let (byte, rest) = key.split_first()?;
                    key = rest;
                    if *byte != 0 {
                        bytes.push(*byte);
                        continue;
                    }
                    let (mark, rest) = key.split_first()?;
                    key = rest;
                    match mark {
                        0 => break,
                        0xFF => bytes.push(0),
                        _ => return None,
                    }
                }
                values.push(Value::bytes(bytes));
            }
        }
    }
    key.is_empty().then_some(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use KeyPart::{Bytes, Number};

    #[test]
    fn keys_round_trip_and_keep_the_order_of_their_columns() {
        let number = |number: u64| Value::from(number);
        let parts = [Bytes, Number, Bytes];
        let mut rows: Vec<Vec<Value>> = Vec::new();
        for first in [&b""[..], b"\0", b"\0\0", b"\0a", b"a", b"a\0", b"a\0b", b"ab", b"\xff"] {
            for second in [0, 1, 255, 256, u64::MAX] {
                for third in [&b""[..], b"\0", b"x"] {
                    rows.push(vec![Value::bytes(first), number(second), Value::bytes(third)]);
                }
            }
        }
        rows.sort();
        let keys: Vec<_> = rows.iter().map(|row| encode(&parts, row).expect("values of these columns")).collect();
        assert!(keys.is_sorted_by(|left, right| left < right));
        for (row, key) in rows.iter().zip(&keys) {
            assert_eq!(decode(&parts, key).as_ref(), Some(row));
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert_eq!(encode(&[Number], &[Value::from(-1_i64)]), None);
        assert_eq!(encode(&[Bytes], &[Value::Null]), None);
        for (parts, bytes) in [
            (&[Number][..], &b"1234567"[..]),
            (&[Number], b"123456789"),
            (&[Bytes, Number], b"ab"),
            (&[Bytes, Number], b"ab\0"),
            (&[Bytes, Number], b"ab\0\x0112345678"),
        ] {
            assert_eq!(decode(parts, bytes), None, "{bytes:?}");
        }
    }
}
