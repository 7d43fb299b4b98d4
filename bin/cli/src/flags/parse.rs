//! The parser: one pass over the arguments, flags checked where they stand.

use super::{Flag, Given, Syntax, Takes, usage_line};
use crate::failure::{Failure, OWN_ERROR};

/// What a command line asks for.
pub(crate) enum Usage {
    /// The command, with these flags and arguments.
    Run(Given),
    /// Its help.
    Help,
}

/// Parses `args`, which follow the command's name.
pub(crate) fn parse(syntax: &'static Syntax, args: &[String]) -> Result<Usage, Failure> {
    let mut given = Given::default();
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        if arg == "--" {
            given.args.extend(rest.cloned());
            break;
        }
        let step = if let Some(long) = arg.strip_prefix("--") {
            long_flag(syntax, long, &mut rest, &mut given)
        } else if arg.len() > 1 && arg.starts_with('-') {
            short_flags(syntax, arg, &mut rest, &mut given)
        } else {
            given.args.push(arg.clone());
            if !syntax.mixed {
                // `run IMAGE -- CMD` and `run IMAGE CMD` are the same; a program named `--` does not exist.
                let rest = rest.as_slice();
                let skip = usize::from(rest.first().is_some_and(|a| a == "--"));
                given.args.extend_from_slice(&rest[skip..]);
                break;
            }
            continue;
        };
        match step {
            Ok(true) => {}
            Ok(false) => return Ok(Usage::Help),
            Err(message) => return Err(flag_error(syntax, &message)),
        }
    }
    check_arity(syntax, given.args.len())?;
    Ok(Usage::Run(given))
}

/// One `--name`, `--name value` or `--name=value`; false is a plea for help.
fn long_flag(
    syntax: &Syntax,
    text: &str,
    rest: &mut std::slice::Iter<'_, String>,
    given: &mut Given,
) -> Result<bool, String> {
    let (name, inline) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let Some(flag) = find(syntax, |f| f.long == name) else {
        return if name == "help" { Ok(false) } else { Err(format!("unknown flag: --{name}")) };
    };
    refuse(flag)?;
    let value = match (inline, flag.takes) {
        (Some(value), _) => value.to_owned(),
        (None, Takes::Nothing) => "true".to_owned(),
        (None, _) => rest.next().cloned().ok_or_else(|| format!("flag needs an argument: --{name}"))?,
    };
    take(flag, value, given)?;
    Ok(true)
}

/// A bundle such as `-it`, `-eA=b`, `-m=1g` or `-v src:dst`; false is a plea for help.
fn short_flags(
    syntax: &Syntax,
    arg: &str,
    rest: &mut std::slice::Iter<'_, String>,
    given: &mut Given,
) -> Result<bool, String> {
    let mut bundle = &arg[1..];
    while let Some(letter) = bundle.chars().next() {
        let Some(flag) = find(syntax, |f| f.short == Some(letter)) else {
            return if letter == 'h' {
                Ok(false)
            } else {
                Err(format!("unknown shorthand flag: '{letter}' in -{bundle}"))
            };
        };
        refuse(flag)?;
        let after = &bundle[letter.len_utf8()..];
        let value = match (after.strip_prefix('='), flag.takes) {
            (Some(value), _) => value.to_owned(),
            (None, Takes::Nothing) => {
                take(flag, "true".to_owned(), given)?;
                bundle = after;
                continue;
            }
            (None, _) if !after.is_empty() => after.to_owned(),
            (None, _) => rest
                .next()
                .cloned()
                .ok_or_else(|| format!("flag needs an argument: '{letter}' in -{bundle}"))?,
        };
        take(flag, value, given)?;
        break;
    }
    Ok(true)
}

fn find(syntax: &Syntax, wanted: impl Fn(&Flag) -> bool) -> Option<&'static Flag> {
    syntax.flags.iter().flat_map(|table| table.iter()).find(|flag| wanted(flag))
}

fn refuse(flag: &Flag) -> Result<(), String> {
    match flag.refused {
        Some(why) => Err(format!("--{} is not supported yet: {why}", flag.long)),
        None => Ok(()),
    }
}

fn take(flag: &'static Flag, value: String, given: &mut Given) -> Result<(), String> {
    let checked = match flag.takes {
        Takes::Nothing => parse_bool(&value).map(drop),
        Takes::One(check) | Takes::Many(check) => check(&value),
    };
    checked.map_err(|why| format!("invalid argument {value:?} for {:?} flag: {why}", flag.name()))?;
    given.set(flag, value);
    Ok(())
}

/// The spellings that Go's flag packages know.
pub(super) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
    }
}

/// A whole number, in base ten or with a prefix `0x`, `0o`, `0b`; a zero in front means base eight, as in Go and C.
pub(super) fn parse_int(text: &str) -> Result<i64, String> {
    let bad = |why: &str| format!("strconv.ParseInt: parsing {text:?}: {why}");
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (radix, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, &digits[2..]),
        Some("0o" | "0O") => (8, &digits[2..]),
        Some("0b" | "0B") => (2, &digits[2..]),
        _ => (if digits.len() > 1 && digits.starts_with('0') { 8 } else { 10 }, digits),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(bad("invalid syntax"));
    }
    let sign = if text.starts_with('-') { "-" } else { "" };
    i64::from_str_radix(&format!("{sign}{digits}"), radix).map_err(|_| bad("value out of range"))
}

fn flag_error(syntax: &Syntax, message: &str) -> Failure {
    let path = syntax.path;
    let message = format!(
        "{message}\n\nUsage:  {}\n\nRun 'tare {path} --help' for more information",
        usage_line(syntax)
    );
    Failure::with_code(OWN_ERROR, message)
}

fn check_arity(syntax: &Syntax, count: usize) -> Result<(), Failure> {
    let (least, most) = (syntax.arity.least, syntax.arity.most);
    if (least..=most).contains(&count) {
        return Ok(());
    }
    let plural = |n: usize| if n == 1 { "" } else { "s" };
    let wants = match (least, most) {
        (0, 0) => "accepts no arguments".to_owned(),
        (least, most) if least == most => format!("requires {least} argument{}", plural(least)),
        (least, _) if count < least => format!("requires at least {least} argument{}", plural(least)),
        (_, most) => format!("requires at most {most} argument{}", plural(most)),
    };
    let path = syntax.path;
    Err(Failure::new(format!(
        "tare: 'tare {path}' {wants}\n\nUsage:  {}\n\nRun 'tare {path} --help' for more information",
        usage_line(syntax)
    )))
}
