//! `--format` for lists: `table`, `table TEMPLATE`, `json`, `raw`, templates; and `--quiet`.

use super::table;
use crate::failure::Failure;
use crate::template::{self, Root, Template, TemplateError, Value};
use serde_json::Map;

/// One row of a list: its columns by name, and the labels that `{{.Label "x"}}` asks for.
pub(crate) struct Row {
    pub(crate) columns: Vec<(&'static str, Value)>,
    pub(crate) labels: Vec<(String, String)>,
}

/// What a list looks like.
pub(crate) struct Layout {
    /// What Go calls the row, for the error about a column that does not exist.
    pub(crate) kind: &'static str,
    /// Column names and their titles.
    pub(crate) titles: &'static [(&'static str, &'static str)],
    /// The table that is printed when no format is given.
    pub(crate) table: &'static str,
    /// What `--quiet` prints.
    pub(crate) quiet: &'static str,
    /// What `--format raw` prints for each row; empty where there is no such format.
    pub(crate) raw: &'static str,
}

/// Renders `rows`; `format` is what the user gave.
pub(crate) fn render(
    layout: &Layout,
    format: Option<&str>,
    quiet: bool,
    rows: &[Row],
) -> Result<String, Failure> {
    let format = format.filter(|f| !f.is_empty()).unwrap_or("table");
    let is_table = format == "table" || format.starts_with("table ");
    if quiet && is_table {
        return lines(&parse_list(layout.quiet)?, layout, rows);
    }
    match format {
        "raw" if !layout.raw.is_empty() => lines(&parse_list(layout.raw)?, layout, rows),
        "json" => json_lines(rows),
        "table" => with_titles(layout.table, layout, rows),
        _ => match format.strip_prefix("table ") {
            Some(template) => with_titles(&unescape(template), layout, rows),
            None => lines(&parse_list(&unescape(format))?, layout, rows),
        },
    }
}

/// `\t` and `\n` typed in a shell's quotes mean what they say.
fn unescape(text: &str) -> String {
    text.replace("\\t", "\t").replace("\\n", "\n")
}

/// Exit code of commands that show one thing, for a template that cannot be read; lists end with 1. Docker's is such.
const BAD_TEMPLATE: i32 = 64;

/// Parses the format of one thing that is shown, which errors call `what`.
pub(crate) fn parse(text: &str, what: &str) -> Result<Template, Failure> {
    let bad = |e: TemplateError| Failure::with_code(BAD_TEMPLATE, format!("{what}: template: {}", e.message));
    Template::parse(&unescape(text)).map_err(bad)
}

/// Parses the format of a list.
fn parse_list(text: &str) -> Result<Template, Failure> {
    let bad = |e: TemplateError| Failure::new(format!("failed to parse template: template: {}", e.message));
    Template::parse(text).map_err(bad)
}

/// A template of the user's that does not go with the data.
pub(crate) fn executing(error: TemplateError) -> Failure {
    Failure::new(format!("failed to execute template: template: {}", error.message))
}

fn json_lines(rows: &[Row]) -> Result<String, Failure> {
    Ok(rows.iter().map(|row| template::escaped(&row.value()) + "\n").collect())
}

fn with_titles(template: &str, layout: &Layout, rows: &[Row]) -> Result<String, Failure> {
    let template = parse_list(template.trim_start())?;
    let titles: Map<String, Value> =
        layout.titles.iter().map(|(name, title)| ((*name).to_owned(), Value::from(*title))).collect();
    let titles = Value::Object(titles);
    let label = |name: &str, args: &[Value]| (name == "Label").then(|| label_title(args));
    let root = Root { kind: Some(layout.kind), method: &label, titles: true, ..Root::plain(&titles) };
    let head = template.execute(&root).map_err(executing)?;
    Ok(table::list(&format!("{head}\n{}", lines(&template, layout, rows)?)))
}

/// The title of a label's column: the last part of its name.
fn label_title(args: &[Value]) -> Value {
    let name = args.first().and_then(Value::as_str).unwrap_or_default();
    Value::from(name.rsplit('.').next().unwrap_or_default().replace(['-', '_'], " "))
}

fn lines(template: &Template, layout: &Layout, rows: &[Row]) -> Result<String, Failure> {
    let mut out = String::new();
    for row in rows {
        let value = row.value();
        let label = |name: &str, args: &[Value]| (name == "Label").then(|| row.label(args));
        let root =
            Root { kind: Some(layout.kind), method: &label, empty: &|_| "<nil>", ..Root::plain(&value) };
        out.push_str(&template.execute(&root).map_err(executing)?);
        out.push('\n');
    }
    Ok(out)
}

// === impl Row ===

impl Row {
    fn value(&self) -> Value {
        Value::Object(self.columns.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    }

    fn label(&self, args: &[Value]) -> Value {
        let name = args.first().and_then(Value::as_str).unwrap_or_default();
        Value::from(self.labels.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str()))
    }
}
