//! Values: JSON, with Go's ideas of truth, order and printing.

use std::cmp::Ordering;

/// A value in a template.
pub(crate) type Value = serde_json::Value;

/// Whether `if` takes it.
pub(super) fn truth(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(a) => !a.is_empty(),
        Value::Object(o) => !o.is_empty(),
    }
}

/// As `{{ . }}` prints it.
pub(super) fn display(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => match n.as_f64() {
            Some(f) if n.is_f64() => float(f),
            _ => n.to_string(),
        },
        Value::String(s) => s.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(inner).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            let pairs: Vec<String> = map.iter().map(|(k, v)| format!("{k}:{}", inner(v))).collect();
            format!("map[{}]", pairs.join(" "))
        }
    }
}

/// Within a list or map nothing is `<nil>`.
fn inner(value: &Value) -> String {
    if value.is_null() { "<nil>".to_owned() } else { display(value) }
}

/// `%v` of a float: the shortest digits, an exponent for the very small and very large.
pub(super) fn float(f: f64) -> String {
    let exponent = if f == 0.0 { 0.0 } else { f.abs().log10().floor() };
    if (-4.0..21.0).contains(&exponent) {
        return f.to_string();
    }
    let text = format!("{f:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
    format!("{digits}e{sign}{exponent:0>2}")
}

/// Orders two basic values of one kind.
pub(super) fn compare(a: &Value, b: &Value) -> Result<Ordering, String> {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => Ok(a.cmp(&b)),
            _ => a.as_f64().partial_cmp(&b.as_f64()).ok_or_else(|| "incomparable numbers".to_owned()),
        },
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

/// Whether two values are the same; nothing is the same as nothing only.
pub(super) fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Null, _) | (_, Value::Null) => Ok(a.is_null() && b.is_null()),
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Array(_) | Value::Object(_), _) | (_, Value::Array(_) | Value::Object(_)) => {
            Err("non-comparable type in eq".to_owned())
        }
        _ => compare(a, b).map(Ordering::is_eq),
    }
}
