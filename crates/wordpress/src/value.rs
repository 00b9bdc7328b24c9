//! Values of SQL as values of cells, without a byte lost on the way.
//!
//! Read by the binary protocol over a connection with `character_set_results=binary`, text is the bytes that stand in
//! the column, whatever its character set. Dates become the text that the server would print, because a value such as
//! `0000-00-00` has no other form.

use crdt::Value;
use mysql_async::Value as Sql;

use crate::shape::ColumnKind;

/// A value as a cell holds it.
pub(crate) fn from_sql(kind: ColumnKind, value: Sql) -> Value {
    match value {
        Sql::NULL => Value::Null,
        Sql::Bytes(bytes) => Value::Bytes(bytes.into()),
        Sql::Int(number) => Value::from(number),
        Sql::UInt(number) => Value::from(number),
        Sql::Float(number) => Value::from(f64::from(number)),
        Sql::Double(number) => Value::from(number),
        Sql::Date(year, month, day, hour, minute, second, micros) => {
            let date = format!("{year:04}-{month:02}-{day:02}");
            if kind == ColumnKind::Date {
                return Value::bytes(date);
            }
            let digits = if let ColumnKind::DateTime(digits) = kind { digits } else { 0 };
            Value::bytes(format!("{date} {hour:02}:{minute:02}:{second:02}{}", fraction(micros, digits)))
        }
        Sql::Time(is_negative, days, hours, minutes, seconds, micros) => {
            let sign = if is_negative { "-" } else { "" };
            let hours = u64::from(days) * 24 + u64::from(hours);
            let digits = if let ColumnKind::Time(digits) = kind { digits } else { 0 };
            Value::bytes(format!("{sign}{hours:02}:{minutes:02}:{seconds:02}{}", fraction(micros, digits)))
        }
    }
}

/// So many digits of the microseconds, with a point before them.
fn fraction(micros: u32, digits: u8) -> String {
    let all = format!(".{micros:06}");
    if digits == 0 { String::new() } else { all.chars().take(usize::from(digits) + 1).collect() }
}

/// A value as it is bound to a statement.
pub(crate) fn to_sql(value: &Value) -> Sql {
    match value {
        Value::Null => Sql::NULL,
        Value::Bool(truth) => Sql::Int(i64::from(*truth)),
        Value::Integer(number) => match u64::try_from(number.get()) {
            Ok(number) => Sql::UInt(number),
            // An `Integer` is an i64 where it is not a u64.
            Err(_) => Sql::Int(number.get() as i64),
        },
        Value::Float(number) => Sql::Double(number.get()),
        Value::Bytes(bytes) => Sql::Bytes(bytes.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_what_the_server_prints() {
        let zero = Sql::Date(0, 0, 0, 0, 0, 0, 0);
        assert_eq!(from_sql(ColumnKind::DateTime(0), zero.clone()), Value::from("0000-00-00 00:00:00"));
        assert_eq!(from_sql(ColumnKind::Date, zero), Value::from("0000-00-00"));
        let moment = Sql::Date(2026, 1, 2, 3, 4, 5, 60_000);
        assert_eq!(from_sql(ColumnKind::DateTime(3), moment), Value::from("2026-01-02 03:04:05.060"));
        let span = Sql::Time(true, 34, 22, 59, 59, 0);
        assert_eq!(from_sql(ColumnKind::Time(0), span), Value::from("-838:59:59"));
    }

    #[test]
    fn numbers_keep_their_whole_range() {
        for number in [i64::MIN, -1, 0] {
            assert_eq!(from_sql(ColumnKind::Number, to_sql(&Value::from(number))), Value::from(number));
        }
        assert_eq!(from_sql(ColumnKind::Number, to_sql(&Value::from(u64::MAX))), Value::from(u64::MAX));
        // A FLOAT is read exactly, and what is read is written back as the same FLOAT.
        let tenth = from_sql(ColumnKind::Float, Sql::Float(0.1));
        assert_eq!(tenth, Value::from(f64::from(0.1_f32)));
    }
}
