//! Repaired names.

use crdt::Value;
use crdt::row::ColumnName;
use replica::host::{RowId, Schema};

/// The value that a client had written, where a column shows it repaired: `-<id>` of its own row is taken off, as
/// often as it is there. Two forms of one name are one value to the oracle.
pub fn base(schema: &Schema, row: &RowId, column: &ColumnName, value: &Value) -> Value {
    let (Value::Bytes(bytes), Some(id)) = (value, row.number()) else { return value.clone() };
    if schema.unique(&row.table) != Some(column) {
        return value.clone();
    }
    let suffix = format!("-{id}");
    let mut name: &[u8] = bytes;
    while let Some(rest) = name.strip_suffix(suffix.as_bytes()) {
        name = rest;
    }
    Value::bytes(name)
}

/// True when the value ends in the repair of its own row.
pub fn is_repaired(schema: &Schema, row: &RowId, column: &ColumnName, value: &Value) -> bool {
    base(schema, row, column, value) != *value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crdt::Namespace;
    use replica::host::Table;

    #[test]
    fn only_the_own_id_of_a_unique_column_is_taken_off() {
        let slug: ColumnName = b"slug".as_slice().into();
        let table = Table { unique: Some(slug.clone()), ..Table::default() };
        let schema = Schema { tables: [("t".into(), table)].into() };
        let row = RowId::numbered(Namespace(1), "t", 12);
        let name = |text: &str| base(&schema, &row, &slug, &Value::from(text));
        assert_eq!(name("tea-12-12"), Value::from("tea"));
        assert_eq!(name("tea-13"), Value::from("tea-13"));
        let other: ColumnName = b"name".as_slice().into();
        assert_eq!(base(&schema, &row, &other, &Value::from("tea-12")), Value::from("tea-12"));
    }
}
