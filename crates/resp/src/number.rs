//! Whole numbers as RESP writes them: no plus sign, no leading zeros, no spaces.

/// Longest form of an i64: a sign and nineteen digits.
const DIGITS_MAX: usize = 20;

/// The number in its one form; `None` for anything else, as Redis' `string2ll`.
pub(crate) fn parse_integer(bytes: &[u8]) -> Option<i64> {
    if bytes == b"0" {
        return Some(0);
    }
    let (is_negative, digits) = match bytes {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    if !matches!(digits.first(), Some(b'1'..=b'9')) || digits.len() >= DIGITS_MAX {
        return None;
    }
    // Downwards, because the least i64 has no positive counterpart.
    let below_zero = digits.iter().try_fold(0_i64, |sum, digit| {
        digit.is_ascii_digit().then_some(())?;
        sum.checked_mul(10)?.checked_sub(i64::from(digit - b'0'))
    })?;
    if is_negative { Some(below_zero) } else { below_zero.checked_neg() }
}

/// Appends the number in decimal.
pub(crate) fn write_integer(out: &mut Vec<u8>, number: i64) {
    let mut digits = [0; DIGITS_MAX];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_form() {
        for number in [0, 1, -1, 10, 99, i64::MAX, i64::MIN, i64::MIN + 1] {
            let mut bytes = Vec::new();
            write_integer(&mut bytes, number);
            assert_eq!(bytes, number.to_string().into_bytes());
            assert_eq!(parse_integer(&bytes), Some(number));
        }
        let wrong = ["", "-", "+1", "01", "-0", "00", " 1", "1 ", "1a", "9223372036854775808", "-9223372036854775809"];
        for text in wrong {
            assert_eq!(parse_integer(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(parse_integer(&[b'9'; 400]), None);
    }
}
