//! Flags as the Docker command line has them: tables, a parser with its rules and words, and help.
//!
//! The rules are those of pflag, which scripts rely on: `-it`, `-eA=b`, `--init=false`, a switch's value only after
//! `=`, `run` stopping at IMAGE, and the texts `unknown flag: --x`, `invalid argument "y" for "-m, --memory" flag: ...`.
//! A general parser can be bent to about half of that and costs more start-up than `run` has; tables are constants and
//! cost nothing. Flags that Docker has and tare has not yet stand in the same tables with the reason, so they are
//! refused by name.

mod help;
mod parse;

pub(crate) use help::{command_help, usage_line};
pub(crate) use parse::{Usage, parse};

/// Checks a value where it is given, so that the error can name the flag.
pub(crate) type Check = fn(&str) -> Result<(), String>;

/// What a flag takes.
#[derive(Clone, Copy)]
pub(crate) enum Takes {
    /// Nothing, or `=true`/`=false`.
    Nothing,
    /// One value; the last one counts.
    One(Check),
    /// A value each time it is given.
    Many(Check),
}

/// One flag of a command.
pub(crate) struct Flag {
    pub(crate) long: &'static str,
    pub(crate) short: Option<char>,
    pub(crate) takes: Takes,
    /// The word for the value in help.
    pub(crate) value: &'static str,
    pub(crate) help: &'static str,
    /// Set: Docker knows this flag, tare does not yet, and this is why or what to do instead.
    pub(crate) refused: Option<&'static str>,
}

/// How many arguments a command takes.
#[derive(Clone, Copy)]
pub(crate) struct Arity {
    pub(crate) least: usize,
    pub(crate) most: usize,
}

/// What the parser needs to know of a command.
pub(crate) struct Syntax {
    /// The words that name it: `run`, `container ls`.
    pub(crate) path: &'static str,
    /// What follows them in the usage line.
    pub(crate) usage: &'static str,
    pub(crate) about: &'static str,
    /// Tables of flags; several, because commands share them.
    pub(crate) flags: &'static [&'static [Flag]],
    pub(crate) arity: Arity,
    /// Flags may follow arguments; where they may not, everything after the first argument is the program's.
    pub(crate) mixed: bool,
}

/// A parsed command line: flags as given, checked one by one, and arguments.
#[derive(Default)]
pub(crate) struct Given {
    flags: Vec<(&'static str, String)>,
    pub(crate) args: Vec<String>,
}

// === impl Flag ===

/// A flag without a value.
pub(crate) const fn switch(long: &'static str, short: Option<char>, help: &'static str) -> Flag {
    Flag { long, short, takes: Takes::Nothing, value: "", help, refused: None }
}

/// A flag with one value of any form.
pub(crate) const fn text(
    long: &'static str,
    short: Option<char>,
    value: &'static str,
    help: &'static str,
) -> Flag {
    Flag { long, short, takes: Takes::One(anything), value, help, refused: None }
}

/// A flag that may be repeated.
pub(crate) const fn list(long: &'static str, short: Option<char>, help: &'static str) -> Flag {
    Flag { long, short, takes: Takes::Many(anything), value: "list", help, refused: None }
}

/// A flag that takes no value in Docker and is not there yet.
pub(crate) const fn refused_switch(long: &'static str, short: Option<char>, why: &'static str) -> Flag {
    Flag { long, short, takes: Takes::Nothing, value: "", help: "", refused: Some(why) }
}

/// A flag that takes a value in Docker and is not there yet.
pub(crate) const fn refused(long: &'static str, short: Option<char>, why: &'static str) -> Flag {
    Flag { long, short, takes: Takes::Many(anything), value: "", help: "", refused: Some(why) }
}

impl Flag {
    /// The same flag with its value checked.
    pub(crate) const fn checked(mut self, check: Check) -> Self {
        self.takes = match self.takes {
            Takes::Many(_) => Takes::Many(check),
            Takes::One(_) | Takes::Nothing => Takes::One(check),
        };
        self
    }

    /// The same flag with another word for its value.
    pub(crate) const fn valued(mut self, value: &'static str) -> Self {
        self.value = value;
        self
    }

    /// `-m, --memory` or `--rm`, as errors name it.
    pub(crate) fn name(&self) -> String {
        match self.short {
            Some(short) => format!("-{short}, --{}", self.long),
            None => format!("--{}", self.long),
        }
    }
}

fn anything(_: &str) -> Result<(), String> {
    Ok(())
}

// === impl Arity ===

impl Arity {
    /// Any number from `least` on.
    pub(crate) const fn at_least(least: usize) -> Self {
        Self { least, most: usize::MAX }
    }

    /// At most `most`.
    pub(crate) const fn at_most(most: usize) -> Self {
        Self { least: 0, most }
    }

    /// Just `n`.
    pub(crate) const fn exactly(n: usize) -> Self {
        Self { least: n, most: n }
    }
}

// === impl Given ===

impl Given {
    /// Whether the switch is on.
    pub(crate) fn on(&self, long: &str) -> bool {
        self.on_or(long, false)
    }

    /// Whether the switch is on, where it may be so by default.
    pub(crate) fn on_or(&self, long: &str, default: bool) -> bool {
        self.one(long).map_or(default, |v| parse::parse_bool(v).unwrap_or(default))
    }

    /// The flag's last value.
    pub(crate) fn one(&self, long: &str) -> Option<&str> {
        self.flags.iter().rev().find(|(name, _)| *name == long).map(|(_, value)| value.as_str())
    }

    /// The flag's last value, unless it is empty, which Docker reads as not given.
    pub(crate) fn some(&self, long: &str) -> Option<String> {
        self.one(long).filter(|v| !v.is_empty()).map(str::to_owned)
    }

    /// The flag's last value as a number; it was checked when it was parsed.
    pub(crate) fn number(&self, long: &str) -> Option<i64> {
        self.one(long).and_then(|v| parse::parse_int(v).ok())
    }

    /// All values of the flag, in order.
    pub(crate) fn many(&self, long: &str) -> Vec<&str> {
        self.flags.iter().filter(|(name, _)| *name == long).map(|(_, value)| value.as_str()).collect()
    }

    /// All values of the flag as an API list: absent if there is none.
    pub(crate) fn api_list(&self, long: &str) -> Option<Vec<String>> {
        let all: Vec<String> = self.many(long).into_iter().map(str::to_owned).collect();
        (!all.is_empty()).then_some(all)
    }

    fn set(&mut self, flag: &'static Flag, value: String) {
        self.flags.push((flag.long, value));
    }
}

/// Checks a whole number, in pflag's words.
pub(crate) fn integer(text: &str) -> Result<(), String> {
    parse::parse_int(text).map(drop)
}

#[cfg(test)]
mod tests;
