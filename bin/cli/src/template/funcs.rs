//! The functions: Go's own, and those that Docker adds (json, join, split, lower, upper, title, truncate, pad, table).

use super::value::{Value, compare, display, equal, float, truth};
use std::cmp::Ordering;

const KNOWN: &[&str] = &[
    "and", "or", "not", "eq", "ne", "lt", "le", "gt", "ge", "len", "index", "slice", "print", "println",
    "printf", "html", "js", "urlquery", "json", "join", "split", "lower", "upper", "title", "truncate",
    "pad", "table", "println",
];

/// Whether a function has this name.
pub(super) fn is_known(name: &str) -> bool {
    KNOWN.contains(&name)
}

/// Calls a function. Over column titles the ones that shape text leave them as they are.
pub(super) fn call(name: &str, args: &[Value], titles: bool) -> Result<Value, String> {
    if titles && matches!(name, "json" | "join" | "split" | "lower" | "upper" | "title" | "truncate" | "pad")
    {
        return Ok(args.first().cloned().unwrap_or(Value::Null));
    }
    match name {
        "not" => one(args).map(|v| Value::from(!truth(v))),
        "eq" => any_equal(args).map(Value::from),
        "ne" => two(args).and_then(|(a, b)| equal(a, b)).map(|same| Value::from(!same)),
        "lt" => order(args, Ordering::is_lt),
        "le" => order(args, Ordering::is_le),
        "gt" => order(args, Ordering::is_gt),
        "ge" => order(args, Ordering::is_ge),
        "len" => one(args).and_then(length).map(Value::from),
        "index" => index(args),
        "slice" => slice(args),
        "print" => Ok(Value::from(print(args))),
        "println" => Ok(Value::from(args.iter().map(display).collect::<Vec<_>>().join(" ") + "\n")),
        "printf" => printf(args).map(Value::from),
        "json" => one(args).map(|v| Value::from(v.to_string())),
        "html" | "js" | "urlquery" => Err("it is not supported in --format".to_owned()),
        "table" => one(args).cloned(),
        _ => shape(name, args),
    }
}

/// Functions over text.
fn shape(name: &str, args: &[Value]) -> Result<Value, String> {
    match name {
        "lower" => one(args).and_then(text).map(|s| Value::from(s.to_lowercase())),
        "upper" => one(args).and_then(text).map(|s| Value::from(s.to_uppercase())),
        "title" => one(args).and_then(text).map(|s| Value::from(title(s))),
        "split" => {
            let (s, separator) = two(args)?;
            let (s, separator) = (text(s)?, text(separator)?);
            let parts: Vec<Value> = match separator {
                "" => s.chars().map(|c| Value::from(c.to_string())).collect(),
                _ => s.split(separator).map(Value::from).collect(),
            };
            Ok(Value::from(parts))
        }
        "join" => {
            let (list, separator) = two(args)?;
            let parts: Vec<String> = match list {
                Value::Null => Vec::new(),
                Value::Array(items) => items.iter().map(display).collect(),
                other => {
                    return Err(format!("wrong type for value; expected []string; got {}", kind_of(other)));
                }
            };
            Ok(Value::from(parts.join(text(separator)?)))
        }
        "truncate" => {
            let (s, most) = two(args)?;
            Ok(Value::from(text(s)?.chars().take(count(most)?).collect::<String>()))
        }
        "pad" => {
            let [s, before, after] = args else { return Err(wrong_number(3, args)) };
            let blanks = |v: &Value| count(v).map(|n| " ".repeat(n.min(10_000)));
            let s = text(s)?;
            Ok(Value::from(if s.is_empty() { String::new() } else { blanks(before)? + s + &blanks(after)? }))
        }
        _ => Err("no such function".to_owned()),
    }
}

/// JSON with what HTML would take for markup escaped, as Go writes it unless told not to. In JSON these characters stand
/// in strings only.
pub(crate) fn escaped(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

fn one(args: &[Value]) -> Result<&Value, String> {
    if let [a] = args { Ok(a) } else { Err(wrong_number(1, args)) }
}

fn two(args: &[Value]) -> Result<(&Value, &Value), String> {
    if let [a, b] = args { Ok((a, b)) } else { Err(wrong_number(2, args)) }
}

fn wrong_number(want: usize, args: &[Value]) -> String {
    format!("wrong number of args: want {want} got {}", args.len())
}

fn text(value: &Value) -> Result<&str, String> {
    value.as_str().ok_or_else(|| format!("wrong type for value; expected string; got {}", kind_of(value)))
}

fn count(value: &Value) -> Result<usize, String> {
    let n = value.as_u64().ok_or_else(|| format!("expected a number; got {}", kind_of(value)))?;
    usize::try_from(n).map_err(|_| "too large".to_owned())
}

/// What kind of value it is, in Go's words.
pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    }
}

fn any_equal(args: &[Value]) -> Result<bool, String> {
    let [first, rest @ ..] = args else { return Err("missing argument for comparison".to_owned()) };
    if rest.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    for other in rest {
        if equal(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn order(args: &[Value], wanted: fn(Ordering) -> bool) -> Result<Value, String> {
    let (a, b) = two(args)?;
    compare(a, b).map(|o| Value::from(wanted(o)))
}

fn length(value: &Value) -> Result<usize, String> {
    match value {
        Value::String(s) => Ok(s.len()),
        Value::Array(a) => Ok(a.len()),
        Value::Object(o) => Ok(o.len()),
        Value::Null => Ok(0),
        other => Err(format!("len of type {}", kind_of(other))),
    }
}

fn index(args: &[Value]) -> Result<Value, String> {
    let [first, keys @ ..] = args else { return Err(wrong_number(1, args)) };
    let mut value = first.clone();
    for key in keys {
        value = match (&value, key) {
            (Value::Object(map), Value::String(key)) => map.get(key).cloned().unwrap_or(Value::Null),
            (Value::Array(items), Value::Number(_)) => {
                let at = count(key).map_err(|_| format!("index out of range: {key}"))?;
                items.get(at).cloned().ok_or_else(|| format!("index out of range: {at}"))?
            }
            (Value::String(s), Value::Number(_)) => {
                let byte =
                    s.as_bytes().get(count(key)?).ok_or_else(|| format!("index out of range: {key}"))?;
                Value::from(*byte)
            }
            (Value::Null, Value::String(_)) => Value::Null,
            (Value::Null, _) => return Err("index of untyped nil".to_owned()),
            (other, key) => return Err(format!("cannot index {} with {}", kind_of(other), kind_of(key))),
        };
    }
    Ok(value)
}

fn slice(args: &[Value]) -> Result<Value, String> {
    let [value, bounds @ ..] = args else { return Err(wrong_number(1, args)) };
    let len = length(value)?;
    let from = bounds.first().map(count).transpose()?.unwrap_or(0);
    let to = bounds.get(1).map(count).transpose()?.unwrap_or(len);
    let range = from..to;
    let outside = || format!("index out of range: {from}:{to} of {len}");
    match value {
        Value::String(s) => s.get(range).map(Value::from).ok_or_else(outside),
        Value::Array(items) => items.get(range).map(|part| Value::from(part.to_vec())).ok_or_else(outside),
        other => Err(format!("can't slice item of type {}", kind_of(other))),
    }
}

/// Go's Sprint: blanks only between operands neither of which is text.
fn print(args: &[Value]) -> String {
    let mut out = String::new();
    for (i, arg) in args.iter().enumerate() {
        if i > 0 && !arg.is_string() && !args[i - 1].is_string() {
            out.push(' ');
        }
        out.push_str(&display(arg));
    }
    out
}

fn title(s: &str) -> String {
    let mut out = String::with_capacity(s.len());
    let mut start = true;
    for c in s.chars() {
        if start {
            out.extend(c.to_uppercase())
        } else {
            out.push(c)
        }
        start = !(c.is_alphanumeric() || c == '_' || c == '\'');
    }
    out
}

/// One verb of a format: `%-10.3s`.
#[derive(Default)]
struct Verb {
    left: bool,
    zero: bool,
    plus: bool,
    width: usize,
    precision: Option<usize>,
}

fn printf(args: &[Value]) -> Result<String, String> {
    let [format, rest @ ..] = args else { return Err(wrong_number(1, args)) };
    let (mut out, mut rest) = (String::new(), rest.iter());
    let mut chars = text(format)?.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut verb = Verb::default();
        while let Some(flag) = chars.next_if(|c| "-0+ #".contains(*c)) {
            verb.left |= flag == '-';
            verb.zero |= flag == '0';
            verb.plus |= flag == '+';
        }
        verb.width = digits(&mut chars).unwrap_or(0).min(10_000);
        if chars.next_if_eq(&'.').is_some() {
            verb.precision = Some(digits(&mut chars).unwrap_or(0).min(1_000));
        }
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(letter) => match rest.next() {
                Some(value) => out.push_str(&verb.apply(letter, value)),
                None => out.push_str(&format!("%!{letter}(MISSING)")),
            },
        }
    }
    let extra: Vec<String> = rest.map(|v| format!("{}={}", kind_of(v), display(v))).collect();
    if !extra.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", extra.join(", ")));
    }
    Ok(out)
}

fn digits(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<usize> {
    let mut value: Option<usize> = None;
    while let Some(digit) = chars.peek().and_then(|c| c.to_digit(10)) {
        value = Some(value.unwrap_or(0).saturating_mul(10).saturating_add(digit as usize));
        chars.next();
    }
    value
}

// === impl Verb ===

impl Verb {
    fn apply(&self, letter: char, value: &Value) -> String {
        let body = match (letter, value) {
            ('v', Value::Null) => "<nil>".to_owned(),
            ('v', _) => display(value),
            ('s', Value::String(s)) => self.cut(s),
            ('s', Value::Array(_) | Value::Object(_)) => display(value),
            ('q', Value::String(s)) => format!("{s:?}"),
            ('d', Value::Number(n)) if !n.is_f64() => n.to_string(),
            ('t', Value::Bool(b)) => b.to_string(),
            ('x', Value::Number(n)) if n.is_u64() => format!("{:x}", n.as_u64().unwrap_or(0)),
            ('x', Value::String(s)) => s.bytes().map(|b| format!("{b:02x}")).collect(),
            ('f', Value::Number(n)) if n.is_f64() => {
                format!("{:.*}", self.precision.unwrap_or(6), n.as_f64().unwrap_or(0.0))
            }
            ('g', Value::Number(n)) if n.is_f64() => float(n.as_f64().unwrap_or(0.0)),
            ('c', Value::Number(n)) => n
                .as_u64()
                .and_then(|n| u32::try_from(n).ok())
                .and_then(char::from_u32)
                .map_or_else(String::new, String::from),
            _ => format!("%!{letter}({}={})", kind_of(value), display(value)),
        };
        let number = matches!(value, Value::Number(_));
        let body = if self.plus && number && !body.starts_with('-') { format!("+{body}") } else { body };
        self.pad(&body, number)
    }

    fn cut(&self, s: &str) -> String {
        self.precision.map_or_else(|| s.to_owned(), |n| s.chars().take(n).collect())
    }

    fn pad(&self, body: &str, number: bool) -> String {
        let missing = self.width.saturating_sub(body.chars().count());
        if self.left {
            return format!("{body}{}", " ".repeat(missing));
        }
        if self.zero && number {
            let (sign, digits) = body.split_at(usize::from(body.starts_with(['-', '+'])));
            return format!("{sign}{}{digits}", "0".repeat(missing));
        }
        format!("{}{body}", " ".repeat(missing))
    }
}
