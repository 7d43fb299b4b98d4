//! The parser against pflag's rules and words.

use super::*;
use crate::failure::Failure;
use proptest::prelude::*;

const FLAGS: &[Flag] = &[
    switch("interactive", Some('i'), "keep stdin open"),
    switch("tty", Some('t'), "allocate a terminal"),
    list("env", Some('e'), "set variables"),
    text("memory", Some('m'), "bytes", "limit")
        .checked(|v| if v == "bad" { Err("invalid size: 'bad'".into()) } else { Ok(()) }),
    text("pids-limit", None, "int", "limit").checked(integer),
    text("name", None, "string", "a name"),
    refused("publish", Some('p'), "there is no network yet"),
];

static RUN: Syntax = Syntax {
    path: "run",
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    about: "Create and run",
    flags: &[FLAGS],
    arity: Arity::at_least(1),
    mixed: false,
};

static RM: Syntax = Syntax {
    path: "rm",
    usage: "CONTAINER",
    about: "",
    flags: &[FLAGS],
    arity: Arity::exactly(1),
    mixed: true,
};

fn try_parse(syntax: &'static Syntax, words: &[&str]) -> Result<Given, Failure> {
    let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
    match parse(syntax, &words)? {
        Usage::Run(given) => Ok(given),
        Usage::Help => Err(Failure::silent(0)),
    }
}

fn given(words: &[&str]) -> Given {
    try_parse(&RUN, words).expect("a good command line")
}

fn error(words: &[&str]) -> String {
    let failure = try_parse(&RUN, words).err().expect("a bad command line");
    assert_eq!(failure.code, 125);
    failure.message.lines().next().unwrap_or_default().to_owned()
}

#[test]
fn bundles_values_and_switches_are_told_apart() {
    let g = given(&["-it", "-eA=b", "-e", "C", "--env=D=e", "-m=1g", "--name", "--x", "img", "-t", "sh"]);
    assert!(g.on("interactive") && g.on("tty"));
    assert_eq!(g.many("env"), ["A=b", "C", "D=e"]);
    assert_eq!((g.one("memory"), g.one("name")), (Some("1g"), Some("--x")));
    assert_eq!(g.args, ["img", "-t", "sh"]);
}

#[test]
fn a_switch_takes_its_value_only_after_an_equals_sign() {
    let g = given(&["-i=false", "--tty", "false"]);
    assert!(!g.on("interactive") && g.on("tty"));
    assert_eq!(g.args, ["false"]);
}

#[test]
fn options_stop_at_the_image() {
    assert_eq!(given(&["img", "ls", "--help", "-i"]).args, ["img", "ls", "--help", "-i"]);
    assert_eq!(given(&["host", "--", "cmd", "--"]).args, ["host", "cmd", "--"]);
    assert_eq!(given(&["--", "host", "cmd"]).args, ["host", "cmd"]);
}

#[test]
fn flags_may_follow_arguments_where_docker_lets_them() {
    let g = try_parse(&RM, &["abc", "-i"]).expect("a good command line");
    assert!(g.on("interactive"));
    assert_eq!(g.args, ["abc"]);
}

#[test]
fn errors_are_in_dockers_words() {
    assert_eq!(error(&["--foo", "x"]), "unknown flag: --foo");
    assert_eq!(error(&["-Z", "x"]), "unknown shorthand flag: 'Z' in -Z");
    assert_eq!(error(&["--memory"]), "flag needs an argument: --memory");
    assert_eq!(error(&["-m"]), "flag needs an argument: 'm' in -m");
    assert_eq!(
        error(&["-m", "bad", "x"]),
        "invalid argument \"bad\" for \"-m, --memory\" flag: invalid size: 'bad'"
    );
    assert_eq!(
        error(&["-i=foo", "x"]),
        "invalid argument \"foo\" for \"-i, --interactive\" flag: strconv.ParseBool: parsing \"foo\": invalid syntax"
    );
    assert_eq!(
        error(&["--pids-limit", "a", "x"]),
        "invalid argument \"a\" for \"--pids-limit\" flag: strconv.ParseInt: parsing \"a\": invalid syntax"
    );
}

#[test]
fn numbers_are_read_as_go_reads_them() {
    for (text, want) in [("12", 12), ("-3", -3), ("+4", 4), ("0x1F", 31), ("010", 8), ("0b11", 3), ("0", 0)] {
        assert_eq!(parse::parse_int(text), Ok(want), "{text}");
    }
    assert_eq!(parse::parse_int("-9223372036854775808"), Ok(i64::MIN));
    for text in ["", "-", "+-1", "08", "1_0", "0x", "1.5", "é"] {
        assert!(parse::parse_int(text).is_err_and(|e| e.ends_with("invalid syntax")), "{text}");
    }
    assert!(parse::parse_int("9223372036854775808").is_err_and(|e| e.ends_with("value out of range")));
}

#[test]
fn a_flag_that_docker_has_and_we_do_not_is_refused_by_name() {
    assert_eq!(error(&["-p", "80:80", "x"]), "--publish is not supported yet: there is no network yet");
    assert_eq!(error(&["--publish=80", "x"]), "--publish is not supported yet: there is no network yet");
}

#[test]
fn too_few_and_too_many_arguments_are_told() {
    let message = |syntax, words: &[&str]| {
        try_parse(syntax, words).err().map(|f| (f.code, f.message)).expect("an error")
    };
    let (code, text) = message(&RUN, &[]);
    assert_eq!(code, 1);
    assert!(
        text.starts_with("tare: 'tare run' requires at least 1 argument\n\nUsage:  tare run [OPTIONS] IMAGE"),
        "{text}"
    );
    assert!(message(&RM, &["a", "b"]).1.starts_with("tare: 'tare rm' requires 1 argument\n"));
}

#[test]
fn help_is_asked_for_by_either_spelling() {
    assert_eq!(try_parse(&RUN, &["--help"]).err(), Some(Failure::silent(0)));
    assert_eq!(try_parse(&RUN, &["-h"]).err(), Some(Failure::silent(0)));
    let page = command_help(&RUN, &["container run", "run"]);
    assert!(page.contains("  -e, --env list         set variables\n"), "{page}");
    assert!(!page.contains("publish"));
}

proptest! {
    #[test]
    fn whatever_follows_the_image_reaches_the_program(words in prop::collection::vec(".{0,12}", 0..8)) {
        prop_assume!(words.first().is_none_or(|w| w != "--"));
        let line: Vec<&str> = ["-i", "img"].into_iter().chain(words.iter().map(String::as_str)).collect();
        prop_assert_eq!(&given(&line).args[1..], &words[..]);
    }

    #[test]
    fn every_value_survives_each_way_of_giving_it(value in ".{1,20}") {
        let inline = format!("--env={value}");
        let g = given(&[&inline, "x"]);
        prop_assert_eq!(g.many("env"), [value.as_str()]);
        let g = given(&["-e", &value, "x"]);
        prop_assert_eq!(g.many("env"), [value.as_str()]);
        if !value.starts_with('=') {
            let glued = format!("-e{value}");
            let g = given(&[&glued, "x"]);
            prop_assert_eq!(g.many("env"), [value.as_str()]);
        }
    }

    #[test]
    fn noise_is_parsed_or_refused_but_never_panics(words in prop::collection::vec("[-=a-z]{0,6}", 0..6)) {
        let words: Vec<String> = words;
        let _ = parse(&RUN, &words);
    }
}
