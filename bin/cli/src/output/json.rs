//! JSON laid out anew without touching its values or the order of its fields, as `inspect` prints what a daemon said.

use std::borrow::Cow;

/// `raw` with every value on a line of its own, four blanks a level; nothing is changed but blanks. `raw` must be valid.
pub(crate) fn indent(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    let mut chars = raw.char_indices();
    while let Some((at, c)) = chars.next() {
        if in_string {
            out.push(c);
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '"' => {
                in_string = true;
                out.push(c);
            }
            '{' | '[' => {
                out.push(c);
                let close = if c == '{' { '}' } else { ']' };
                if raw[at + 1..].trim_start().starts_with(close) {
                    out.push(close);
                    chars.find(|(_, c)| *c == close);
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("    ", depth));
}

/// Text in double quotes as Go's strconv.Quote writes it.
pub(crate) fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        let piece: Cow<'_, str> = match c {
            '"' => "\\\"".into(),
            '\\' => "\\\\".into(),
            '\n' => "\\n".into(),
            '\t' => "\\t".into(),
            '\r' => "\\r".into(),
            '\x07' => "\\a".into(),
            '\x08' => "\\b".into(),
            '\x0b' => "\\v".into(),
            '\x0c' => "\\f".into(),
            c if c.is_ascii_control() => format!("\\x{:02x}", u32::from(c)).into(),
            c if is_invisible(c) => format!("\\u{:04x}", u32::from(c)).into(),
            c => c.to_string().into(),
        };
        out.push_str(&piece);
    }
    out.push('"');
    out
}

/// Characters without a picture of their own that a terminal may act on or that hide what is written: controls beyond
/// ASCII, marks of direction, separators of lines, the byte order mark.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}
