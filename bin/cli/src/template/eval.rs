//! The tree over data.

use super::parse::{Node, Operand, Pipeline};
use super::value::{display, truth};
use super::{Root, Value, funcs};

/// Where a template is while it runs.
struct Machine<'a> {
    root: &'a Root<'a>,
    variables: Vec<(String, Data)>,
}

/// A value, or the outermost dot, which is more than its value.
#[derive(Clone)]
enum Data {
    Root,
    Value(Value),
}

/// What a node asks the loop around it to do.
enum Flow {
    On,
    Break,
    Continue,
}

/// Applies `nodes` to `root`.
pub(super) fn execute(nodes: &[Node], root: &Root<'_>, out: &mut String) -> Result<(), String> {
    let mut machine = Machine { root, variables: vec![("$".to_owned(), Data::Root)] };
    machine.nodes(nodes, &Data::Root, out).map(drop)
}

// === impl Machine ===

impl Machine<'_> {
    fn nodes(&mut self, nodes: &[Node], dot: &Data, out: &mut String) -> Result<Flow, String> {
        let scope = self.variables.len();
        for node in nodes {
            match self.node(node, dot, out)? {
                Flow::On => {}
                flow => {
                    self.variables.truncate(scope);
                    return Ok(flow);
                }
            }
        }
        self.variables.truncate(scope);
        Ok(Flow::On)
    }

    fn node(&mut self, node: &Node, dot: &Data, out: &mut String) -> Result<Flow, String> {
        let scope = self.variables.len();
        let flow = match node {
            Node::Text(text) => {
                out.push_str(text);
                return Ok(Flow::On);
            }
            Node::Print(pipe) => {
                let value = self.pipeline(pipe, dot)?;
                if pipe.variables.is_empty() {
                    match (self.value(&value), last_field(pipe)) {
                        (Value::Null, Some(field)) => out.push_str((self.root.empty)(field)),
                        (value, _) => out.push_str(&display(value)),
                    }
                }
                // A variable that an action declares lives on to the end of its block.
                return Ok(Flow::On);
            }
            Node::Break => Flow::Break,
            Node::Continue => Flow::Continue,
            Node::If { arms, other } => self.conditional(arms, other, dot, out)?,
            Node::With { pipe, body, other } => {
                let value = self.pipeline(pipe, dot)?;
                if truth(self.value(&value)) {
                    self.nodes(body, &value, out)?
                } else {
                    self.nodes(other, dot, out)?
                }
            }
            Node::Range { pipe, body, other } => self.range(pipe, body, other, dot, out)?,
        };
        self.variables.truncate(scope);
        Ok(flow)
    }

    fn conditional(
        &mut self,
        arms: &[(Pipeline, Vec<Node>)],
        other: &[Node],
        dot: &Data,
        out: &mut String,
    ) -> Result<Flow, String> {
        for (pipe, body) in arms {
            let value = self.pipeline(pipe, dot)?;
            if truth(self.value(&value)) {
                return self.nodes(body, dot, out);
            }
        }
        self.nodes(other, dot, out)
    }

    fn range(
        &mut self,
        pipe: &Pipeline,
        body: &[Node],
        other: &[Node],
        dot: &Data,
        out: &mut String,
    ) -> Result<Flow, String> {
        let value = self.commands(pipe, dot)?;
        let items = items_of(self.value(&value))?;
        if items.is_empty() {
            return self.nodes(other, dot, out);
        }
        let scope = self.variables.len();
        for (key, item) in items {
            match pipe.variables.as_slice() {
                [one] => self.variables.push((one.clone(), Data::Value(item.clone()))),
                [first, second] => {
                    self.variables.push((first.clone(), Data::Value(key)));
                    self.variables.push((second.clone(), Data::Value(item.clone())));
                }
                _ => {}
            }
            let flow = self.nodes(body, &Data::Value(item), out)?;
            self.variables.truncate(scope);
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn value<'v>(&'v self, data: &'v Data) -> &'v Value {
        match data {
            Data::Root => self.root.value,
            Data::Value(value) => value,
        }
    }

    /// Evaluates a pipeline and sets the variables it is for.
    fn pipeline(&mut self, pipe: &Pipeline, dot: &Data) -> Result<Data, String> {
        let value = self.commands(pipe, dot)?;
        for name in &pipe.variables {
            if pipe.declares {
                self.variables.push((name.clone(), value.clone()));
            } else {
                let slot = self.variables.iter_mut().rev().find(|(n, _)| n == name);
                slot.ok_or_else(|| format!("undefined variable {name:?}"))?.1 = value.clone();
            }
        }
        Ok(value)
    }

    fn commands(&mut self, pipe: &Pipeline, dot: &Data) -> Result<Data, String> {
        let mut last: Option<Data> = None;
        for command in &pipe.commands {
            // The outermost pipeline knows its place; those in parentheses leave it to that one.
            let place = |e: String| if pipe.place.is_empty() { e } else { format!("{}: {e}", pipe.place) };
            last = Some(self.command(command, last, dot).map_err(place)?);
        }
        Ok(last.unwrap_or(Data::Value(Value::Null)))
    }

    fn command(&mut self, words: &[Operand], piped: Option<Data>, dot: &Data) -> Result<Data, String> {
        let (first, rest) = words.split_first().ok_or("empty command")?;
        if let Operand::Function(name) = first {
            return self.function(name, rest, piped, dot).map(Data::Value);
        }
        if rest.is_empty() && piped.is_none() {
            return self.operand(first, dot);
        }
        let Operand::Chain(inner, fields) = first else {
            return Err("can't give argument to non-function".to_owned());
        };
        let receiver = self.operand(inner, dot)?;
        let args = self.arguments(rest, piped, dot)?;
        match (receiver, fields.as_slice()) {
            (Data::Root, [name]) => (self.root.method)(name, &args)
                .map(Data::Value)
                .ok_or_else(|| format!("{name} has arguments but cannot be invoked as function")),
            _ => Err(format!("{} has arguments but cannot be invoked as function", fields.join("."))),
        }
    }

    /// `and` and `or` stop at the first value that decides, so what follows may not even make sense.
    fn function(
        &mut self,
        name: &str,
        rest: &[Operand],
        piped: Option<Data>,
        dot: &Data,
    ) -> Result<Value, String> {
        if matches!(name, "and" | "or") {
            let mut last = Value::Null;
            for word in rest {
                let value = self.operand(word, dot)?;
                last = self.value(&value).clone();
                if truth(&last) == (name == "or") {
                    return Ok(last);
                }
            }
            return match piped {
                Some(data) => Ok(self.value(&data).clone()),
                None if rest.is_empty() => {
                    Err(format!("wrong number of args for {name}: want at least 1 got 0"))
                }
                None => Ok(last),
            };
        }
        if name == "json" && self.is_row(rest, piped.as_ref(), dot)? {
            return Ok(Value::from(funcs::escaped(self.root.value)));
        }
        let args = self.arguments(rest, piped, dot)?;
        funcs::call(name, &args, self.root.titles).map_err(|e| format!("error calling {name}: {e}"))
    }

    /// Whether the one argument is a whole row of a list, which Go turns into JSON in another way than its fields.
    fn is_row(&mut self, words: &[Operand], piped: Option<&Data>, dot: &Data) -> Result<bool, String> {
        let whole = match (words, piped) {
            ([], Some(data)) => matches!(data, Data::Root),
            ([word], None) => matches!(self.operand(word, dot)?, Data::Root),
            _ => false,
        };
        Ok(whole && self.root.kind.is_some() && !self.root.titles)
    }

    fn arguments(
        &mut self,
        words: &[Operand],
        piped: Option<Data>,
        dot: &Data,
    ) -> Result<Vec<Value>, String> {
        let mut args = Vec::with_capacity(words.len() + 1);
        for word in words {
            let data = self.operand(word, dot)?;
            args.push(self.value(&data).clone());
        }
        args.extend(piped.map(|data| self.value(&data).clone()));
        Ok(args)
    }

    fn operand(&mut self, operand: &Operand, dot: &Data) -> Result<Data, String> {
        match operand {
            Operand::Dot => Ok(dot.clone()),
            Operand::Literal(value) => Ok(Data::Value(value.clone())),
            Operand::Variable(name) => {
                let found = self.variables.iter().rev().find(|(n, _)| n == name);
                found.map(|(_, data)| data.clone()).ok_or_else(|| format!("undefined variable {name:?}"))
            }
            Operand::Group(pipe) => self.pipeline(pipe, dot),
            Operand::Function(name) => self.function(name, &[], None, dot).map(Data::Value),
            Operand::Chain(inner, fields) => {
                let mut data = self.operand(inner, dot)?;
                for field in fields {
                    data = Data::Value(self.field(&data, field)?);
                }
                Ok(data)
            }
        }
    }

    fn field(&self, data: &Data, name: &str) -> Result<Value, String> {
        match self.value(data) {
            Value::Object(map) => match (map.get(name), self.root.kind) {
                (Some(value), _) => Ok(value.clone()),
                (None, _) if (self.root.optional)(name) => Ok(Value::Null),
                (None, Some(kind)) if matches!(data, Data::Root) => {
                    Err(format!("executing \"\" at <.{name}>: can't evaluate field {name} in type {kind}"))
                }
                (None, _) => Err(format!("executing \"\" at <.{name}>: map has no entry for key {name:?}")),
            },
            Value::Null => Err(format!("executing \"\" at <.{name}>: nil data; no entry for key {name:?}")),
            other => Err(format!(
                "executing \"\" at <.{name}>: can't evaluate field {name} in {}",
                funcs::kind_of(other)
            )),
        }
    }
}

/// The field that a pipeline is, if it is nothing else.
fn last_field(pipe: &Pipeline) -> Option<&str> {
    match pipe.commands.as_slice() {
        [command] => match command.as_slice() {
            [Operand::Chain(_, fields)] => fields.last().map(String::as_str),
            _ => None,
        },
        _ => None,
    }
}

/// What `range` walks: a list with its indices, a map by sorted keys, or the numbers below one.
fn items_of(value: &Value) -> Result<Vec<(Value, Value)>, String> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => {
            Ok(items.iter().enumerate().map(|(i, v)| (Value::from(i), v.clone())).collect())
        }
        Value::Object(map) => {
            let mut pairs: Vec<_> = map.iter().collect();
            pairs.sort_by_key(|(k, _)| k.as_str());
            Ok(pairs.into_iter().map(|(k, v)| (Value::from(k.as_str()), v.clone())).collect())
        }
        Value::Number(n) if n.as_u64().is_some_and(|n| n <= 1_000_000) => {
            Ok((0..n.as_u64().unwrap_or(0)).map(|i| (Value::from(i), Value::from(i))).collect())
        }
        other => Err(format!("range can't iterate over {}", display(other))),
    }
}
