//! Help texts, laid out as Docker's.

use super::{Flag, Syntax};
use std::fmt::Write as _;

/// `tare run [OPTIONS] IMAGE [COMMAND] [ARG...]`.
pub(crate) fn usage_line(syntax: &Syntax) -> String {
    format!("tare {} {}", syntax.path, syntax.usage).trim_end().to_owned()
}

/// The page that `--help` prints. `aliases` are the other names of the command.
pub(crate) fn command_help(syntax: &Syntax, aliases: &[&str]) -> String {
    let mut out = format!("Usage:  {}\n\n{}\n", usage_line(syntax), syntax.about);
    if !aliases.is_empty() {
        let names: Vec<String> = aliases.iter().map(|a| format!("tare {a}")).collect();
        let _ = write!(out, "\nAliases:\n  {}\n", names.join(", "));
    }
    let mut flags: Vec<&Flag> =
        syntax.flags.iter().flat_map(|t| t.iter()).filter(|f| f.refused.is_none()).collect();
    if flags.is_empty() {
        return out;
    }
    flags.sort_by_key(|f| f.long);
    out.push_str("\nOptions:\n");
    let heads: Vec<String> = flags.iter().map(|f| head(f)).collect();
    let width = heads.iter().map(String::len).max().unwrap_or(0);
    for (head, flag) in heads.iter().zip(flags) {
        let _ = writeln!(out, "  {head:<width$}   {}", flag.help);
    }
    out
}

fn head(flag: &Flag) -> String {
    let short = flag.short.map_or_else(|| "    ".to_owned(), |s| format!("-{s}, "));
    format!("{short}--{} {}", flag.long, flag.value).trim_end().to_owned()
}
