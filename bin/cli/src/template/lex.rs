//! Text and actions, and the tokens inside an action.

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    Text(String),
    Action { line: usize, column: usize, tokens: Vec<Token> },
}

/// A word inside `{{ }}`. `Field` may follow its operand without a blank, which makes a chain.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// A function, a keyword, `true`, `false` or `nil`.
    Word(String),
    /// `.Name`; `joined` if no blank stands before it.
    Field {
        name: String,
        joined: bool,
    },
    Dot,
    Variable(String),
    Text(String),
    Int(i64),
    Float(f64),
    Open,
    Close,
    Pipe,
    Comma,
    Declare,
    Assign,
}

/// Cuts `text` into pieces.
pub(super) fn lex(text: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let (mut rest, mut line, mut trim) = (text, 1, false);
    loop {
        let Some(at) = rest.find("{{") else {
            push_text(&mut pieces, rest, trim, false);
            return Ok(pieces);
        };
        let (before, after) = (&rest[..at], &rest[at + 2..]);
        let left = after.starts_with('-') && after[1..].starts_with(char::is_whitespace);
        push_text(&mut pieces, before, trim, left);
        line += before.matches('\n').count();
        let body = if left { &after[1..] } else { after };
        let start = text.len() - body.trim_start().len();
        let column = start - text[..start].rfind('\n').map_or(0, |at| at + 1);
        let (tokens, used) = action(body, line)?;
        line += body[..used].matches('\n').count();
        trim = body[..used]
            .strip_suffix("}}")
            .is_some_and(|b| b.ends_with('-') && b[..b.len() - 1].ends_with(char::is_whitespace));
        if let Some(tokens) = tokens {
            pieces.push(Piece::Action { line, column, tokens });
        }
        rest = &body[used..];
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str, trim_start: bool, trim_end: bool) {
    let text = if trim_start { text.trim_start() } else { text };
    let text = if trim_end { text.trim_end() } else { text };
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

/// The tokens up to `}}` and the length with it; no tokens for a comment.
fn action(body: &str, line: usize) -> Result<(Option<Vec<Token>>, usize), String> {
    let start = body.len() - body.trim_start().len();
    if body[start..].starts_with("/*") {
        let end = body.find("*/").ok_or_else(|| format!("{line}: unclosed comment"))? + 2;
        let tail = body[end..].trim_start();
        let tail = tail.strip_prefix('-').unwrap_or(tail);
        let closed = tail
            .strip_prefix("}}")
            .ok_or_else(|| format!("{line}: comment ends before closing delimiter"))?;
        return Ok((None, body.len() - closed.len()));
    }
    let mut lexer = Lexer { body, at: 0, line };
    let mut tokens = Vec::new();
    loop {
        let blank = lexer.skip_blanks();
        let rest = lexer.rest();
        if rest.starts_with("}}") || (blank && rest.starts_with("-}}")) {
            let used = lexer.at + if rest.starts_with('-') { 3 } else { 2 };
            return Ok((Some(tokens), used));
        }
        if rest.is_empty() {
            return Err(format!("{line}: unclosed action"));
        }
        let token = lexer.token(blank || tokens.is_empty())?;
        tokens.push(token);
    }
}

struct Lexer<'a> {
    body: &'a str,
    at: usize,
    line: usize,
}

// === impl Lexer ===

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.body[self.at..]
    }

    fn skip_blanks(&mut self) -> bool {
        let trimmed = self.rest().trim_start();
        let skipped = self.rest().len() - trimmed.len();
        self.at += skipped;
        skipped > 0
    }

    fn take(&mut self, len: usize) -> &'a str {
        let taken = &self.rest()[..len];
        self.at += len;
        taken
    }

    fn word_len(&self, from: usize) -> usize {
        let rest = &self.rest()[from..];
        rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
    }

    fn token(&mut self, after_blank: bool) -> Result<Token, String> {
        let rest = self.rest();
        let first = rest.chars().next().unwrap_or(' ');
        let second = rest[first.len_utf8()..].chars().next().unwrap_or(' ');
        match first {
            '"' => self.quoted(),
            '`' => self.raw(),
            '\'' => self.character(),
            '|' => self.one(Token::Pipe),
            ',' => self.one(Token::Comma),
            '(' => self.one(Token::Open),
            ')' => self.one(Token::Close),
            '=' => self.one(Token::Assign),
            ':' if second == '=' => {
                self.take(2);
                Ok(Token::Declare)
            }
            '$' => {
                let len = 1 + self.word_len(1);
                Ok(Token::Variable(self.take(len).to_owned()))
            }
            '.' if second.is_alphabetic() || second == '_' => {
                let len = 1 + self.word_len(1);
                Ok(Token::Field { name: self.take(len)[1..].to_owned(), joined: !after_blank })
            }
            '.' if !second.is_ascii_digit() => self.one(Token::Dot),
            '0'..='9' | '-' | '+' | '.' => self.number(),
            c if c.is_alphabetic() || c == '_' => {
                let len = self.word_len(0);
                Ok(Token::Word(self.take(len).to_owned()))
            }
            c => Err(format!("{}: unexpected {c:?} in action", self.line)),
        }
    }

    fn one(&mut self, token: Token) -> Result<Token, String> {
        self.take(1);
        Ok(token)
    }

    fn number(&mut self) -> Result<Token, String> {
        let rest = self.rest();
        let len = 1 + rest[1..]
            .find(|c: char| !c.is_alphanumeric() && c != '.' && c != '_')
            .unwrap_or(rest.len() - 1);
        let text = self.take(len);
        if let Some(value) = integer(text) {
            return Ok(Token::Int(value));
        }
        let digits =
            text.trim_start_matches(['-', '+']).starts_with(|c: char| c.is_ascii_digit() || c == '.');
        match text.parse::<f64>() {
            Ok(value) if digits => Ok(Token::Float(value)),
            _ => Err(format!("{}: bad number syntax: {text:?}", self.line)),
        }
    }

    fn raw(&mut self) -> Result<Token, String> {
        let end = self.rest()[1..]
            .find('`')
            .ok_or_else(|| format!("{}: unterminated raw quoted string", self.line))?;
        Ok(Token::Text(self.take(end + 2)[1..=end].to_owned()))
    }

    fn character(&mut self) -> Result<Token, String> {
        let mut chars = self.rest().char_indices().skip(1);
        let found = (chars.next(), chars.next());
        if let (Some((_, c)), Some((end, '\''))) = found
            && c != '\\'
        {
            self.take(end + 1);
            return Ok(Token::Int(i64::from(u32::from(c))));
        }
        Err(format!("{}: malformed character constant", self.line))
    }

    fn quoted(&mut self) -> Result<Token, String> {
        let unterminated = || format!("{}: unterminated quoted string", self.line);
        let mut out = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((i, c)) = chars.next() {
            match c {
                '"' => {
                    self.at += i + 1;
                    return Ok(Token::Text(out));
                }
                '\n' => return Err(unterminated()),
                '\\' => {
                    let (_, escaped) = chars.next().ok_or_else(unterminated)?;
                    out.push(match escaped {
                        'n' => '\n',
                        't' => '\t',
                        'r' => '\r',
                        '0' => '\0',
                        '"' | '\\' | '\'' => escaped,
                        other => return Err(format!("{}: unknown escape \\{other} in a string", self.line)),
                    });
                }
                c => out.push(c),
            }
        }
        Err(unterminated())
    }
}

fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = match digits.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok()?,
        None if digits.starts_with(|c: char| c.is_ascii_digit()) => digits.parse().ok()?,
        None => return None,
    };
    Some(if negative { -value } else { value })
}
