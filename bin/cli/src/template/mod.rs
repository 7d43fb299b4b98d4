//! Go's text/template as far as `--format` needs it: what people and scripts write works, the rest is a clear error.
//!
//! - `lex`: text, actions and their tokens; trim markers and comments.
//! - `parse`: tokens into a tree.
//! - `eval`: the tree over data.
//! - `funcs`: the functions, Go's own and those that Docker adds.
//! - `value`: truth, comparison and printing of values as Go has them.
//!
//! Data is JSON. The outermost dot may be stricter than a map (a row of a table knows its columns) and may have
//! methods (`{{.Label "x"}}`): see [`Root`].

mod eval;
mod funcs;
mod lex;
mod parse;
mod value;

pub(crate) use funcs::escaped;
pub(crate) use value::Value;

/// What the outermost dot is.
pub(crate) struct Root<'a> {
    /// Its fields.
    pub(crate) value: &'a Value,
    /// What it is called where a field does not exist; nothing for a plain map.
    pub(crate) kind: Option<&'static str>,
    /// Methods that take arguments.
    pub(crate) method: &'a dyn Fn(&str, &[Value]) -> Option<Value>,
    /// Fields that are nothing, rather than an error, where the data leaves them out.
    pub(crate) optional: &'a dyn Fn(&str) -> bool,
    /// How a field that is nothing prints.
    pub(crate) empty: &'a dyn Fn(&str) -> &'static str,
    /// The values are column titles, which functions are not to change.
    pub(crate) titles: bool,
}

/// A parsed template.
#[derive(Debug)]
pub(crate) struct Template {
    nodes: Vec<parse::Node>,
}

/// A mistake in a template or in applying it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TemplateError {
    pub(crate) message: String,
}

// === impl Template ===

impl Template {
    /// Parses `text`.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let nodes = lex::lex(text).and_then(parse::parse);
        match nodes {
            Ok(nodes) => Ok(Self { nodes }),
            Err(message) => Err(TemplateError { message: format!(":{message}") }),
        }
    }

    /// Applies it to `root`. An error names its place in the template and leaves it to the caller to say whose it was.
    pub(crate) fn execute(&self, root: &Root<'_>) -> Result<String, TemplateError> {
        let mut out = String::new();
        eval::execute(&self.nodes, root, &mut out)
            .map_err(|message| TemplateError { message: format!(":{message}") })?;
        Ok(out)
    }
}

impl<'a> Root<'a> {
    /// A plain map without methods.
    pub(crate) fn plain(value: &'a Value) -> Self {
        Self {
            value,
            kind: None,
            method: &|_, _| None,
            optional: &|_| false,
            empty: &|_| "<no value>",
            titles: false,
        }
    }
}

#[cfg(test)]
mod tests;
