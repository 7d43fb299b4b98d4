//! Tokens into a tree.

use super::lex::{Piece, Token};
use super::value::Value;
use std::collections::VecDeque;

/// How deep blocks and parentheses may nest.
const MAX_DEPTH: usize = 100;

/// A node of the tree.
#[derive(Debug)]
pub(super) enum Node {
    Text(String),
    Print(Pipeline),
    /// `if` and its `else if`s in order, and what is left.
    If {
        arms: Vec<(Pipeline, Vec<Node>)>,
        other: Vec<Node>,
    },
    With {
        pipe: Pipeline,
        body: Vec<Node>,
        other: Vec<Node>,
    },
    Range {
        pipe: Pipeline,
        body: Vec<Node>,
        other: Vec<Node>,
    },
    Break,
    Continue,
}

/// Commands, each getting the one before as its last argument, and the variables they are for.
#[derive(Debug)]
pub(super) struct Pipeline {
    /// Where it stands, `line:column`.
    pub(super) place: String,
    pub(super) variables: Vec<String>,
    pub(super) declares: bool,
    pub(super) commands: Vec<Vec<Operand>>,
}

/// One word of a command.
#[derive(Debug)]
pub(super) enum Operand {
    Dot,
    Function(String),
    Variable(String),
    Literal(Value),
    Group(Box<Pipeline>),
    /// Fields of something.
    Chain(Box<Operand>, Vec<String>),
}

/// Parses all pieces.
pub(super) fn parse(pieces: Vec<Piece>) -> Result<Vec<Node>, String> {
    let mut parser = Parser { pieces: pieces.into(), depth: 0, loops: 0, place: String::new() };
    let (nodes, end) = parser.block()?;
    match end {
        End::Text => Ok(nodes),
        End::Stop(line) => Err(format!("{line}: unexpected {{{{end}}}}")),
        End::Else(line, _) => Err(format!("{line}: unexpected {{{{else}}}}")),
    }
}

/// What ended a block.
enum End {
    Text,
    Stop(usize),
    Else(usize, Tokens),
}

type Tokens = VecDeque<Token>;

struct Parser {
    pieces: VecDeque<Piece>,
    depth: usize,
    loops: usize,
    /// Where the action at hand stands.
    place: String,
}

// === impl Parser ===

impl Parser {
    fn block(&mut self) -> Result<(Vec<Node>, End), String> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.pop_front() {
            let (line, tokens) = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action { line, column, tokens } => {
                    self.place = format!("{line}:{column}");
                    (line, Tokens::from(tokens))
                }
            };
            let keyword = match tokens.front() {
                Some(Token::Word(word)) => word.clone(),
                _ => String::new(),
            };
            match keyword.as_str() {
                "end" if tokens.len() == 1 => return Ok((nodes, End::Stop(line))),
                "else" => return Ok((nodes, End::Else(line, tokens.into_iter().skip(1).collect()))),
                _ => nodes.push(self.action(&keyword, tokens, line)?),
            }
        }
        Ok((nodes, End::Text))
    }

    fn action(&mut self, keyword: &str, mut tokens: Tokens, line: usize) -> Result<Node, String> {
        match keyword {
            "if" | "with" | "range" => {
                tokens.pop_front();
                self.depth += 1;
                if self.depth > MAX_DEPTH {
                    return Err(format!("{line}: blocks nest too deeply"));
                }
                let node = match keyword {
                    "if" => self.conditional(tokens, line),
                    "with" => self.with(tokens, line),
                    _ => self.range(tokens, line),
                };
                self.depth -= 1;
                node
            }
            "break" | "continue" if tokens.len() == 1 => match (self.loops, keyword) {
                (0, _) => Err(format!("{line}: {{{{{keyword}}}}} outside {{{{range}}}}")),
                (_, "break") => Ok(Node::Break),
                _ => Ok(Node::Continue),
            },
            "define" | "template" | "block" => {
                Err(format!("{line}: {{{{{keyword}}}}} is not supported in --format"))
            }
            _ => Ok(Node::Print(self.pipeline(&mut tokens, line)?)),
        }
    }

    fn pipeline(&self, tokens: &mut Tokens, line: usize) -> Result<Pipeline, String> {
        Ok(Pipeline { place: self.place.clone(), ..pipeline(tokens, line, 0)? })
    }

    fn conditional(&mut self, mut tokens: Tokens, line: usize) -> Result<Node, String> {
        let mut arms = Vec::new();
        loop {
            let pipe = self.pipeline(&mut tokens, line)?;
            let (body, end) = self.block()?;
            arms.push((pipe, body));
            match end {
                End::Stop(_) => return Ok(Node::If { arms, other: Vec::new() }),
                End::Text => return Err(format!("{line}: unexpected EOF, {{{{if}}}} has no {{{{end}}}}")),
                End::Else(_, mut rest) if rest.front() == Some(&Token::Word("if".to_owned())) => {
                    rest.pop_front();
                    tokens = rest;
                }
                End::Else(at, rest) => {
                    let other = self.last_block(rest, at)?;
                    return Ok(Node::If { arms, other });
                }
            }
        }
    }

    fn with(&mut self, mut tokens: Tokens, line: usize) -> Result<Node, String> {
        let pipe = self.pipeline(&mut tokens, line)?;
        let (body, other) = self.body_and_else(line)?;
        Ok(Node::With { pipe, body, other })
    }

    fn range(&mut self, mut tokens: Tokens, line: usize) -> Result<Node, String> {
        let pipe = self.pipeline(&mut tokens, line)?;
        self.loops += 1;
        let both = self.body_and_else(line);
        self.loops -= 1;
        let (body, other) = both?;
        Ok(Node::Range { pipe, body, other })
    }

    fn body_and_else(&mut self, line: usize) -> Result<(Vec<Node>, Vec<Node>), String> {
        let (body, end) = self.block()?;
        match end {
            End::Stop(_) => Ok((body, Vec::new())),
            End::Text => Err(format!("{line}: unexpected EOF, a block has no {{{{end}}}}")),
            End::Else(at, rest) => Ok((body, self.last_block(rest, at)?)),
        }
    }

    /// What follows a plain `else`: up to `end`.
    fn last_block(&mut self, rest: Tokens, line: usize) -> Result<Vec<Node>, String> {
        if !rest.is_empty() {
            return Err(format!("{line}: unexpected words after {{{{else}}}}"));
        }
        match self.block()? {
            (nodes, End::Stop(_)) => Ok(nodes),
            (_, End::Text) => Err(format!("{line}: unexpected EOF, {{{{else}}}} has no {{{{end}}}}")),
            (_, End::Else(at, _)) => Err(format!("{at}: expected {{{{end}}}}; found {{{{else}}}}")),
        }
    }
}

/// Parses a pipeline until the tokens end or a closing parenthesis.
fn pipeline(tokens: &mut Tokens, line: usize, depth: usize) -> Result<Pipeline, String> {
    if depth > MAX_DEPTH {
        return Err(format!("{line}: parentheses nest too deeply"));
    }
    let (variables, declares) = variables(tokens);
    let mut commands = Vec::new();
    loop {
        let command = command(tokens, line, depth)?;
        if command.is_empty() {
            return Err(format!("{line}: missing value for command"));
        }
        if !commands.is_empty()
            && !matches!(command[0], Operand::Function(_) | Operand::Chain(..) | Operand::Variable(_))
        {
            return Err(format!("{line}: non executable command in pipeline stage {}", commands.len() + 1));
        }
        commands.push(command);
        match tokens.front() {
            Some(Token::Pipe) => drop(tokens.pop_front()),
            Some(Token::Close) if depth > 0 => break,
            Some(other) => return Err(format!("{line}: unexpected {other:?} in command")),
            None => break,
        }
    }
    Ok(Pipeline { place: String::new(), variables, declares, commands })
}

/// `$x :=`, `$i, $x :=` or `$x =` at the front.
fn variables(tokens: &mut Tokens) -> (Vec<String>, bool) {
    let name = |token: Option<&Token>| match token {
        Some(Token::Variable(name)) => Some(name.clone()),
        _ => None,
    };
    let (first, second) = (name(tokens.front()), name(tokens.get(2)));
    let (names, used) = match (first, tokens.get(1), second) {
        (Some(a), Some(Token::Declare | Token::Assign), _) => (vec![a], 2),
        (Some(a), Some(Token::Comma), Some(b)) if matches!(tokens.get(3), Some(Token::Declare)) => {
            (vec![a, b], 4)
        }
        _ => return (Vec::new(), false),
    };
    let declares = tokens.get(used - 1) == Some(&Token::Declare);
    tokens.drain(..used);
    (names, declares)
}

fn command(tokens: &mut Tokens, line: usize, depth: usize) -> Result<Vec<Operand>, String> {
    let mut words = Vec::new();
    while !matches!(tokens.front(), None | Some(Token::Pipe | Token::Close)) {
        let Some(token) = tokens.pop_front() else { break };
        let operand = operand(token, tokens, line, depth)?;
        words.push(chain(operand, tokens));
    }
    Ok(words)
}

fn operand(token: Token, tokens: &mut Tokens, line: usize, depth: usize) -> Result<Operand, String> {
    Ok(match token {
        Token::Dot => Operand::Dot,
        Token::Field { name, .. } => Operand::Chain(Box::new(Operand::Dot), vec![name]),
        Token::Variable(name) => Operand::Variable(name),
        Token::Text(text) => Operand::Literal(Value::from(text)),
        Token::Int(value) => Operand::Literal(Value::from(value)),
        Token::Float(value) => Operand::Literal(Value::from(value)),
        Token::Word(word) => match word.as_str() {
            "true" => Operand::Literal(Value::from(true)),
            "false" => Operand::Literal(Value::from(false)),
            "nil" => Operand::Literal(Value::Null),
            name if super::funcs::is_known(name) => Operand::Function(word),
            name => return Err(format!("{line}: function {name:?} not defined")),
        },
        Token::Open => {
            let inner = pipeline(tokens, line, depth + 1)?;
            match tokens.pop_front() {
                Some(Token::Close) => Operand::Group(Box::new(inner)),
                _ => return Err(format!("{line}: unclosed left paren")),
            }
        }
        other => return Err(format!("{line}: unexpected {other:?} in operand")),
    })
}

/// Fields that follow without a blank: `.A.B`, `$x.A`, `(...).A`.
fn chain(operand: Operand, tokens: &mut Tokens) -> Operand {
    let mut more = Vec::new();
    while let Some(Token::Field { joined: true, name }) = tokens.front() {
        more.push(name.clone());
        tokens.pop_front();
    }
    match operand {
        operand if more.is_empty() => operand,
        Operand::Chain(inner, mut fields) => {
            fields.append(&mut more);
            Operand::Chain(inner, fields)
        }
        operand => Operand::Chain(Box::new(operand), more),
    }
}
