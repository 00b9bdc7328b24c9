//! Answers of the door: maps, lists, texts.

use redis::Value;
use serde_json::{Map, Number, Value as Json};

use super::error::AdminError;

/// The pairs of a map, in their order.
#[derive(Debug)]
pub(super) struct Fields<'a>(Vec<(String, &'a Value)>);

impl<'a> Fields<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| *value)
    }

    /// A value as it is shown; nothing for one that is missing.
    pub(super) fn text(&self, name: &str) -> String {
        self.get(name).map_or_else(String::new, cell)
    }

    /// True or false, also as RESP2 tells it; `None` for anything else.
    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        match self.get(name)? {
            Value::Boolean(value) => Some(*value),
            Value::Int(0) => Some(false),
            Value::Int(1) => Some(true),
            _ => None,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &'a Value)> {
        self.0.iter().map(|(name, value)| (name.as_str(), *value))
    }
}

/// The pairs of a map, also of one that came as a flat array.
pub(super) fn fields<'a>(command: &str, value: &'a Value) -> Result<Fields<'a>, AdminError> {
    match value {
        Value::Map(pairs) => Ok(Fields(pairs.iter().map(|(name, value)| (cell(name), value)).collect())),
        Value::Array(flat) if flat.len().is_multiple_of(2) => {
            let pairs = flat.chunks_exact(2).filter_map(|pair| pair.first().zip(pair.get(1)));
            Ok(Fields(pairs.map(|(name, value)| (cell(name), value)).collect()))
        }
        _ => Err(AdminError::answer(command, "a map was expected")),
    }
}

/// A list of maps.
pub(super) fn maps<'a>(command: &str, value: &'a Value) -> Result<Vec<Fields<'a>>, AdminError> {
    match value {
        Value::Array(list) | Value::Set(list) => list.iter().map(|entry| fields(command, entry)).collect(),
        _ => Err(AdminError::answer(command, "a list was expected")),
    }
}

/// A value in one line, without control characters.
pub(super) fn cell(value: &Value) -> String {
    let text = match value {
        Value::Nil => String::new(),
        Value::Int(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Boolean(value) => value.to_string(),
        Value::Okay => "OK".to_owned(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text.clone(),
        Value::BulkString(bytes) | Value::BigNumber(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => to_json(other).to_string(),
    };
    if text.contains(char::is_control) { text.escape_debug().to_string() } else { text }
}

/// Names and values of a text like INFO's, `name:value` a line.
pub(super) fn cell_lines(value: &Value) -> Vec<(String, String)> {
    let text = match value {
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => text.clone(),
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        _ => String::new(),
    };
    let pair = |line: &str| {
        let (name, value) = line.split_once(':')?;
        // A terminal shows it.
        Some((name.to_owned(), value.chars().filter(|character| !character.is_control()).collect()))
    };
    text.lines().filter_map(pair).collect()
}

/// The same as JSON. Numbers beyond what JSON can hold become texts.
pub(super) fn to_json(value: &Value) -> Json {
    match value {
        Value::Nil => Json::Null,
        Value::Int(number) => Json::from(*number),
        Value::Double(number) => Number::from_f64(*number).map_or_else(|| Json::from(number.to_string()), Json::Number),
        Value::Boolean(value) => Json::Bool(*value),
        Value::Array(list) | Value::Set(list) | Value::Push { data: list, .. } => list.iter().map(to_json).collect(),
        Value::Map(pairs) => {
            let pairs = pairs.iter().map(|(name, value)| (cell(name), to_json(value)));
            Json::Object(pairs.collect::<Map<String, Json>>())
        }
        Value::Attribute { data, .. } => to_json(data),
        Value::Okay => Json::from("OK"),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Json::from(text.as_str()),
        Value::BulkString(bytes) | Value::BigNumber(bytes) => Json::from(String::from_utf8_lossy(bytes).into_owned()),
        other => Json::from(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn maps_come_in_both_forms() {
        let map = Value::Map(vec![(bulk("a"), Value::Int(1)), (bulk("b"), Value::Boolean(true))]);
        let flat = Value::Array(vec![bulk("a"), Value::Int(1), bulk("b"), Value::Int(1)]);
        for value in [&map, &flat] {
            let fields = fields("X", value).unwrap();
            assert_eq!(fields.text("a"), "1");
            assert_eq!(fields.flag("b"), Some(true));
            assert_eq!((fields.text("c"), fields.flag("c")), (String::new(), None));
        }
        assert_eq!(fields("X", &Value::Int(1)).unwrap_err().code(), "ERR_DAEMON_ANSWER");
    }

    #[test]
    fn json_keeps_structure_and_cells_keep_a_line() {
        let value = Value::Map(vec![(bulk("list"), Value::Array(vec![Value::Nil, Value::Double(f64::INFINITY)]))]);
        assert_eq!(to_json(&value), serde_json::json!({ "list": [null, "inf"] }));
        assert_eq!(cell(&bulk("a\nb\u{1b}[2J")), "a\\nb\\u{1b}[2J");
    }
}
