//! The password of the door.

use core::fmt;

/// A password that is never printed and is compared in a time that does not tell how much of it was right.
#[derive(Clone)]
pub struct Password(Box<[u8]>);

impl Password {
    /// `None` for an empty password, which would let everybody in.
    pub fn new(password: &[u8]) -> Option<Self> {
        (!password.is_empty()).then(|| Self(password.into()))
    }

    /// True for the same bytes. The time depends on the length of `given` alone.
    pub(crate) fn matches(&self, given: &[u8]) -> bool {
        let own = self.0.iter().cycle();
        let lengths = usize::from(self.0.len() != given.len());
        let difference = given.iter().zip(own).fold(lengths, |sum, (given, own)| sum | usize::from(given ^ own));
        core::hint::black_box(difference) == 0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_bytes_match() {
        let password = Password::new(b"abc").expect("it is not empty");
        assert!(password.matches(b"abc"));
        for wrong in [&b""[..], b"ab", b"abd", b"abcabc", b"ABC"] {
            assert!(!password.matches(wrong));
        }
        assert!(Password::new(b"").is_none());
        assert_eq!(format!("{password:?}"), "Password(..)");
    }
}
