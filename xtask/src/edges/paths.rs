//! Which top modules of its own crate a source file names.

use super::tokens::{Token, tokens};

/// A name that a file takes from the root of its crate, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mention {
    pub(super) name: String,
    pub(super) line: usize,
}

/// Every `crate::NAME` in `source`, and every `super::…::NAME` that climbs to the root; `depth` is how many modules deep
/// the file lies (`src/a.rs` is 1). Code under `#[cfg(test)]` is not looked at: tests may import what they like.
pub(super) fn mentions(source: &str, depth: usize) -> Vec<Mention> {
    let tokens = tokens(source);
    let mut walk = Walk { tokens: &tokens, at: 0, braces: Vec::new(), depth, found: Vec::new() };
    while walk.at < tokens.len() {
        walk.step();
    }
    walk.found
}

/// Names that the root file takes out of its own modules (`pub use error::Error`): pairs of name and module.
pub(super) fn reexports(source: &str) -> Vec<(String, String)> {
    let tokens = tokens(source);
    let mut out = Vec::new();
    for at in 0..tokens.len() {
        if tokens[at].text == "use" {
            let mut from = at + 1;
            while matches!(text(&tokens, from), "crate" | "self") {
                from += 3;
            }
            let module = text(&tokens, from).to_string();
            let end = tokens[from..].iter().position(|t| t.text == ";").map_or(tokens.len(), |n| from + n);
            let names = tokens[from + 1..end].iter().filter(|t| is_name(&t.text));
            out.extend(names.map(|t| (t.text.clone(), module.clone())));
        }
    }
    out
}

fn text(tokens: &[Token], at: usize) -> &str {
    tokens.get(at).map_or("", |t| t.text.as_str())
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c == '_' || c.is_alphabetic()) && word != "as"
}

struct Walk<'a> {
    tokens: &'a [Token],
    at: usize,
    /// For every open brace, whether it is the body of an inline module.
    braces: Vec<bool>,
    depth: usize,
    found: Vec<Mention>,
}

impl Walk<'_> {
    fn word(&self, ahead: usize) -> &str {
        text(self.tokens, self.at + ahead)
    }

    fn is_path_separator(&self, ahead: usize) -> bool {
        self.word(ahead) == ":" && self.word(ahead + 1) == ":"
    }

    fn step(&mut self) {
        match self.word(0) {
            "#" if self.is_cfg_test() => return self.skip_item(),
            "{" => {
                let inline = self.at >= 2 && self.tokens[self.at - 2].text == "mod";
                self.braces.push(inline);
            }
            "}" => {
                self.braces.pop();
            }
            // `pub(in crate::x)` is a visibility, not an import.
            "in" if self.word(1) == "crate" => self.at += 1,
            "crate" if self.is_path_separator(1) => return self.take_from(3),
            "super" if self.is_path_separator(1) => return self.climb(),
            _ => {}
        }
        self.at += 1;
    }

    fn climb(&mut self) {
        let inline = self.braces.iter().filter(|b| **b).count();
        let mut left = self.depth + inline;
        let mut ahead = 0;
        while self.word(ahead) == "super" && self.is_path_separator(ahead + 1) {
            left = left.saturating_sub(1);
            ahead += 3;
        }
        if left == 0 { self.take_from(ahead) } else { self.at += ahead }
    }

    /// Takes the name, or the first name of each member of a `{…}` group, that stands `ahead`.
    fn take_from(&mut self, ahead: usize) {
        self.at += ahead;
        if self.word(0) != "{" {
            self.take();
            return;
        }
        let (mut depth, mut fresh) = (0, true);
        while self.at < self.tokens.len() {
            match self.word(0) {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            if fresh && is_name(self.word(0)) {
                self.take();
                fresh = false;
                continue;
            }
            fresh = depth == 1 && matches!(self.word(0), "{" | ",");
            self.at += 1;
            if depth == 0 {
                return;
            }
        }
    }

    fn take(&mut self) {
        if let Some(token) = self.tokens.get(self.at) {
            if is_name(&token.text) {
                self.found.push(Mention { name: token.text.clone(), line: token.line });
            }
            self.at += 1;
        }
    }

    fn is_cfg_test(&self) -> bool {
        ["#", "[", "cfg", "(", "test", ")", "]"].iter().enumerate().all(|(i, w)| self.word(i) == *w)
    }

    /// Steps over the item behind an attribute: to its `;`, or to the end of its braces.
    fn skip_item(&mut self) {
        self.at += 7;
        let mut depth = 0;
        while self.at < self.tokens.len() {
            match self.word(0) {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            let done = depth == 0 && matches!(self.word(0), ";" | "}");
            self.at += 1;
            if done {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(source: &str, depth: usize) -> Vec<String> {
        mentions(source, depth).into_iter().map(|m| m.name).collect()
    }

    #[test]
    fn plain_and_inline_paths_are_found() {
        assert_eq!(names("use crate::a::b; fn f() -> crate::c::D { crate::e::g() }", 1), ["a", "c", "e"]);
    }

    #[test]
    fn groups_give_the_first_name_of_each_member() {
        assert_eq!(names("use crate::{a, b::{c, d}, e::f as g, self};", 1), ["a", "b", "e", "self"]);
    }

    #[test]
    fn super_counts_only_when_it_reaches_the_root() {
        assert_eq!(names("use super::a;", 1), ["a"]);
        assert_eq!(names("use super::a;", 2), Vec::<String>::new());
        assert_eq!(names("use super::super::a;", 2), ["a"]);
        assert_eq!(names("mod m { use super::a; } use super::b;", 1), ["b"]);
    }

    #[test]
    fn tests_may_import_what_they_like() {
        assert_eq!(
            names("#[cfg(test)] mod tests { use crate::a; } #[cfg(test)] use crate::b; use crate::c;", 1),
            ["c"]
        );
    }

    #[test]
    fn a_visibility_is_no_import() {
        assert_eq!(names("pub(in crate::a) fn f() {} pub(crate) fn g() {}", 1), Vec::<String>::new());
    }

    #[test]
    fn reexports_know_their_module() {
        let pairs = reexports("mod error; pub use error::{Error, Kind as K}; pub use crate::plan::Plan;");
        let shown: Vec<_> = pairs.iter().map(|(name, module)| format!("{name}<{module}")).collect();
        assert_eq!(shown, ["Error<error", "Kind<error", "K<error", "Plan<plan"]);
    }
}
