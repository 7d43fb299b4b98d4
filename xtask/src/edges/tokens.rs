//! Rust source as a flat list of identifiers and punctuation; comments, strings and literals fall away.

/// An identifier or a single punctuation character, with its line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) text: String,
    pub(super) line: usize,
}

/// Cuts `source` into tokens. Numbers count as identifiers: no path begins with one.
pub(super) fn tokens(source: &str) -> Vec<Token> {
    let mut scan = Scan { rest: source.chars().collect(), at: 0, line: 1, out: Vec::new() };
    while scan.at < scan.rest.len() {
        scan.step();
    }
    scan.out
}

struct Scan {
    rest: Vec<char>,
    at: usize,
    line: usize,
    out: Vec<Token>,
}

impl Scan {
    fn peek(&self, ahead: usize) -> char {
        self.rest.get(self.at + ahead).copied().unwrap_or('\0')
    }

    fn bump(&mut self) {
        if self.peek(0) == '\n' {
            self.line += 1;
        }
        self.at += 1;
    }

    fn step(&mut self) {
        match (self.peek(0), self.peek(1)) {
            ('/', '/') => self.skip_while(|c| c != '\n'),
            ('/', '*') => self.block_comment(),
            ('"', _) => self.string(),
            ('\'', _) => self.quote(),
            (c, _) if c == '_' || c.is_alphanumeric() => self.word(),
            (c, _) => {
                if !c.is_whitespace() {
                    self.out.push(Token { text: c.to_string(), line: self.line });
                }
                self.bump();
            }
        }
    }

    fn skip_while(&mut self, keep: impl Fn(char) -> bool) {
        while self.at < self.rest.len() && keep(self.peek(0)) {
            self.bump();
        }
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        loop {
            match (self.peek(0), self.peek(1)) {
                ('/', '*') => depth += 1,
                ('*', '/') => depth -= 1,
                ('\0', _) => return,
                _ => {
                    self.bump();
                    continue;
                }
            }
            self.at += 2;
            if depth == 0 {
                return;
            }
        }
    }

    /// A string whose opening quote is here; escapes are stepped over.
    fn string(&mut self) {
        self.bump();
        while self.at < self.rest.len() && self.peek(0) != '"' {
            if self.peek(0) == '\\' {
                self.bump();
            }
            self.bump();
        }
        self.bump();
    }

    /// A character literal or a lifetime.
    fn quote(&mut self) {
        let literal = self.peek(1) == '\\' || self.peek(2) == '\'';
        self.bump();
        if !literal {
            self.skip_while(|c| c == '_' || c.is_alphanumeric());
            return;
        }
        if self.peek(0) == '\\' {
            self.bump();
        }
        self.bump();
        self.skip_while(|c| c != '\'');
        self.bump();
    }

    /// An identifier, or the prefix of a (raw) string.
    fn word(&mut self) {
        let (start, line) = (self.at, self.line);
        self.skip_while(|c| c == '_' || c.is_alphanumeric());
        let text: String = self.rest[start..self.at].iter().collect();
        let raw = matches!(text.as_str(), "r" | "br" | "cr");
        match self.peek(0) {
            '"' if raw => self.raw_string(),
            '#' if raw && (self.peek(1) == '"' || self.peek(1) == '#') => self.raw_string(),
            // A raw identifier: `r#type`; its name follows as a word of its own.
            '#' if text == "r" => self.bump(),
            '"' if matches!(text.as_str(), "b" | "c") => self.string(),
            _ => self.out.push(Token { text, line }),
        }
    }

    fn raw_string(&mut self) {
        let start = self.at;
        self.skip_while(|c| c == '#');
        let hashes = self.at - start;
        self.bump();
        while self.at < self.rest.len() {
            let closes = self.peek(0) == '"' && (1..=hashes).all(|i| self.peek(i) == '#');
            self.bump();
            if closes {
                self.at += hashes;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<String> {
        tokens(source).into_iter().map(|t| t.text).collect()
    }

    #[test]
    fn comments_and_strings_fall_away() {
        let source = "a // crate::x\n/* b /* c */ d */ e \"crate::y \\\" z\" f r#\"crate::\"w\"# g b\"h\" i";
        assert_eq!(words(source), ["a", "e", "f", "g", "i"]);
    }

    #[test]
    fn a_lifetime_is_not_a_character() {
        assert_eq!(
            words("fn f<'a>(x: &'a str) { '\"'; '\\''; 'c' }").join(" "),
            "fn f < > ( x : & str ) { ; ; }"
        );
    }

    #[test]
    fn lines_are_counted_through_comments_and_strings() {
        let last = tokens("/*\n\n*/ \"\n\" // x\n here").pop().unwrap();
        assert_eq!((last.text.as_str(), last.line), ("here", 5));
    }

    #[test]
    fn raw_identifiers_keep_their_name() {
        assert_eq!(words("r#type::x"), ["type", ":", ":", "x"]);
    }
}
