//! Yes, no, or not to be told from the record.

/// Kleene's three values, in order, so that *and* is the minimum and *or* the maximum.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Truth {
    /// Certainly not.
    No,
    /// The record leaves it open.
    Maybe,
    /// Certainly.
    Yes,
}

impl Truth {
    /// Both.
    pub fn and(self, other: Self) -> Self {
        self.min(other)
    }

    /// At least one.
    pub fn or(self, other: Self) -> Self {
        self.max(other)
    }

    /// The opposite.
    pub const fn negate(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Maybe => Self::Maybe,
            Self::Yes => Self::No,
        }
    }

    /// As certain as before, or open: for what a loss may have undone.
    pub fn unless(self, open: bool) -> Self {
        if open && self == Self::Yes { Self::Maybe } else { self }
    }

    /// True when any of them holds.
    pub fn any(truths: impl IntoIterator<Item = Self>) -> Self {
        let mut any = Self::No;
        for truth in truths {
            any = any.or(truth);
            if any == Self::Yes {
                break;
            }
        }
        any
    }
}

impl From<bool> for Truth {
    fn from(known: bool) -> Self {
        if known { Self::Yes } else { Self::No }
    }
}

impl From<Option<bool>> for Truth {
    fn from(known: Option<bool>) -> Self {
        known.map_or(Self::Maybe, Self::from)
    }
}

/// A whole number that is only known to lie between two bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Interval {
    /// Least.
    pub low: i128,
    /// Greatest.
    pub high: i128,
}

impl Interval {
    /// Adds an amount that counts, does not, or may.
    pub fn add(&mut self, amount: i128, counts: Truth) {
        match counts {
            Truth::No => {}
            Truth::Yes => {
                self.low += amount;
                self.high += amount;
            }
            Truth::Maybe => {
                self.low += amount.min(0);
                self.high += amount.max(0);
            }
        }
    }

    /// True when the number is possible.
    pub fn contains(&self, number: i128) -> bool {
        (self.low..=self.high).contains(&number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_open_stays_open_unless_the_other_side_decides() {
        use Truth::{Maybe, No, Yes};
        assert_eq!((Maybe.and(No), Maybe.and(Yes), Maybe.or(Yes), Maybe.or(No)), (No, Maybe, Yes, Maybe));
        assert_eq!((Maybe.negate(), Yes.unless(true), No.unless(true), Yes.unless(false)), (Maybe, Maybe, No, Yes));
        assert_eq!(Truth::any([No, Maybe, No]), Maybe);
    }

    #[test]
    fn open_amounts_widen_the_interval_on_their_side() {
        let mut sum = Interval::default();
        sum.add(5, Truth::Yes);
        sum.add(-2, Truth::Maybe);
        sum.add(3, Truth::Maybe);
        sum.add(100, Truth::No);
        assert_eq!(sum, Interval { low: 3, high: 8 });
        assert!(sum.contains(3) && !sum.contains(2));
    }
}
