//! Templates as people write them, and what they print with Go.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn data() -> Value {
    json!({
        "Name": "web", "Pid": 42, "Load": 1.5, "Up": true, "None": null, "Empty": [],
        "State": {"Status": "running", "Code": 0},
        "Env": ["A=1", "B=2"],
        "Labels": {"b.x": "2", "a": "1"},
        "Mounts": [{"Type": "bind", "Source": "/a"}, {"Type": "tmpfs", "Source": ""}],
    })
}

fn try_render(template: &str) -> Result<String, String> {
    let data = data();
    let method = |name: &str, args: &[Value]| {
        (name == "Label").then(|| data["Labels"].get(args.first()?.as_str()?).cloned()).flatten()
    };
    let root = Root {
        value: &data,
        kind: None,
        method: &method,
        optional: &|n| n == "Health",
        empty: &|_| "<no value>",
        titles: false,
    };
    Template::parse(template).and_then(|t| t.execute(&root)).map_err(|e| e.message)
}

fn render(template: &str) -> String {
    try_render(template).expect(template)
}

fn check(cases: &[(&str, &str)]) {
    for (template, want) in cases {
        assert_eq!(render(template), *want, "{template}");
    }
}

#[test]
fn fields_nest_and_print_as_in_go() {
    check(&[
        ("{{.Name}} {{ .Pid }} {{.Load}} {{.Up}} {{.None}}", "web 42 1.5 true <no value>"),
        ("{{.State.Status}}", "running"),
        ("{{.Env}} {{.Labels}} {{.Empty}}", "[A=1 B=2] map[a:1 b.x:2] []"),
        ("{{$.Name}} {{(.State).Status}} {{.Label \"b.x\"}}", "web running 2"),
        ("{{\"lit\"}} {{`r\\aw`}} {{3}} {{-3}} {{1.50}} {{true}}", "lit r\\aw 3 -3 1.5 true"),
    ]);
}

#[test]
fn blocks_choose_and_repeat() {
    check(&[
        ("{{if .Up}}y{{else}}n{{end}}{{if .Empty}}y{{else}}n{{end}}{{if .State.Code}}y{{end}}", "yn"),
        ("{{if .None}}a{{else if eq .Pid 42}}b{{else}}c{{end}}", "b"),
        ("{{range .Env}}<{{.}}>{{end}}", "<A=1><B=2>"),
        ("{{range $i, $e := .Env}}{{$i}}={{$e}};{{end}}", "0=A=1;1=B=2;"),
        ("{{range $k, $v := .Labels}}{{$k}}:{{$v}} {{end}}", "a:1 b.x:2 "),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{range .Mounts}}{{if eq .Type \"tmpfs\"}}{{break}}{{end}}{{.Source}}{{end}}", "/a"),
        ("{{range .Mounts}}{{if eq .Type \"bind\"}}{{continue}}{{end}}{{.Type}}{{end}}", "tmpfs"),
        ("{{range 3}}{{.}}{{end}}", "012"),
        ("{{with .State}}{{.Status}} {{$.Name}}{{end}}{{with .None}}x{{else}} y{{end}}", "running web y"),
    ]);
}

#[test]
fn variables_live_in_their_block() {
    check(&[
        ("{{$x := .Name}}{{$x}}", "web"),
        ("{{$x := 1}}{{range .Env}}{{$x = 2}}{{end}}{{$x}}", "2"),
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{end}}{{$x}}", "1"),
        ("{{if $x := .Pid}}{{$x}}{{end}}", "42"),
    ]);
    assert!(try_render("{{if true}}{{$x := 1}}{{end}}{{$x}}").is_err());
}

#[test]
fn pipelines_pass_the_last_argument() {
    check(&[
        ("{{.Name | upper}}", "WEB"),
        ("{{.Name | printf \"%s-%s\" \"a\"}}", "a-web"),
        ("{{(index .Env 0) | len}}", "3"),
        ("{{.Labels | len | printf \"%03d\"}}", "002"),
        ("{{ \"b.x\" | index .Labels }}", "2"),
    ]);
}

#[test]
fn dockers_functions_work() {
    check(&[
        (
            "{{json .Env}} {{json .Labels}} {{json .Name}} {{json .None}}",
            "[\"A=1\",\"B=2\"] {\"a\":\"1\",\"b.x\":\"2\"} \"web\" null",
        ),
        ("{{join .Env \", \"}}", "A=1, B=2"),
        ("{{index (split \"a:b:c\" \":\") 1}}", "b"),
        ("{{lower \"AbC\"}}{{upper \"x\"}} {{title \"hello big world\"}}", "abcX Hello Big World"),
        ("{{truncate .Name 2}}|{{truncate .Name 9}}|{{pad .Name 1 2}}|", "we|web| web  |"),
        ("{{println 1 \"a\"}}{{print 1 2 \"x\" 3}}", "1 a\n1 2x3"),
    ]);
}

#[test]
fn comparison_and_logic_work() {
    check(&[
        (
            "{{eq .Pid 42}} {{eq .Name \"a\" \"web\"}} {{ne .Pid 1}} {{lt 1 2}} {{le 2 2}} {{gt 1 2}} {{ge \"b\" \"a\"}}",
            "true true true true true false true",
        ),
        (
            "{{and .Up .Name}} {{or .None .Name}} {{not .Up}} {{and .None .Missing}}",
            "web web false <no value>",
        ),
        ("{{index .Labels \"zzz\"}}|{{slice .Name 1 2}}|{{len .Env}}", "<no value>|e|2"),
    ]);
}

#[test]
fn printf_has_widths_and_flags() {
    check(&[
        ("{{printf \"%5s|%-5s|%.2s\" \"ab\" \"ab\" \"abc\"}}", "   ab|ab   |ab"),
        (
            "{{printf \"%d %05d %+d %x %q %t %v %%\" 1 2 3 255 \"q\" true .Env}}",
            "1 00002 +3 ff \"q\" true [A=1 B=2] %",
        ),
        ("{{printf \"%.2f %d %s\" .Load \"x\" 1}}", "1.50 %!d(string=x) %!s(int=1)"),
        ("{{printf \"%s\"}} {{printf \"a\" 1}}", "%!s(MISSING) a%!(EXTRA int=1)"),
    ]);
}

#[test]
fn trim_markers_and_comments_vanish() {
    check(&[
        ("a  {{- .Pid -}}  b", "a42b"),
        ("a {{/* no */}} b", "a  b"),
        ("a {{- /* no */ -}} b", "ab"),
        ("{{-3}}", "-3"),
    ]);
}

#[test]
fn what_is_missing_is_an_error_unless_it_is_optional() {
    let error = |t: &str| try_render(t).expect_err(t);
    assert!(error("{{.Missing}}").contains("map has no entry for key \"Missing\""));
    assert_eq!(render("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}"), "none");
    assert!(error("{{.State.Health.Status}}").contains("nil data"));
    assert!(error("{{.Name.Foo}}").contains("can't evaluate field Foo in string"));
    assert!(error("{{index .Env 9}}").contains("index out of range"));
    let value = json!({"ID": "x"});
    let root = Root { kind: Some("*formatter.ContainerContext"), ..Root::plain(&value) };
    let error = Template::parse("{{.Foo}}").and_then(|t| t.execute(&root)).expect_err("no such column");
    assert_eq!(
        error.message,
        ":1:2: executing \"\" at <.Foo>: can't evaluate field Foo in type *formatter.ContainerContext"
    );
    let null = json!({"Env": null, "X": null});
    let root = Root { empty: &|n| if n == "Env" { "[]" } else { "<no value>" }, ..Root::plain(&null) };
    let text = Template::parse("{{.Env}} {{.X}} {{json .Env}}").and_then(|t| t.execute(&root)).expect("text");
    assert_eq!(text, "[] <no value> null");
}

#[test]
fn mistakes_are_told_with_their_line() {
    for (template, word) in [
        ("{{", "unclosed action"),
        ("a\n{{.Name", "2: unclosed action"),
        ("{{nope .}}", "function \"nope\" not defined"),
        ("{{if .Up}}", "has no {{end}}"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{else}}", "unexpected {{else}}"),
        ("{{\"a}}", "unterminated quoted string"),
        ("{{.Name | 3}}", "non executable command"),
        ("{{}}", "missing value"),
        ("{{(.Name}}", "unclosed left paren"),
        ("{{break}}", "outside {{range}}"),
        ("{{template \"x\"}}", "not supported"),
        ("{{/* x", "unclosed comment"),
        ("{{$x}}", "undefined variable"),
        ("{{12ab}}", "bad number"),
    ] {
        let error = try_render(template).expect_err(template);
        assert!(error.contains(word), "{template}: {error}");
        assert!(error.starts_with(':'), "{error}");
    }
}

#[test]
fn nesting_without_end_is_refused() {
    assert!(try_render(&"{{if 1}}".repeat(5000)).is_err());
    assert!(try_render(&format!("{{{{{}1{}}}}}", "(".repeat(5000), ")".repeat(5000))).is_err());
}

proptest! {
    #[test]
    fn text_without_actions_is_itself(text in "[^{]{0,60}") {
        prop_assert_eq!(try_render(&text), Ok(text));
    }

    #[test]
    fn strings_survive_quoting(text in "[ -~]{0,30}") {
        let quoted = text.replace('\\', "\\\\").replace('"', "\\\"");
        prop_assert_eq!(try_render(&format!("{{{{\"{quoted}\"}}}}")), Ok(text));
    }

    #[test]
    fn json_prints_what_reads_back(numbers in prop::collection::vec(any::<i64>(), 0..5), word in "\\PC{0,10}") {
        let value = json!({"N": numbers, "W": word});
        let out = Template::parse("{{json .}}").and_then(|t| t.execute(&Root::plain(&value))).expect("json");
        prop_assert_eq!(serde_json::from_str::<Value>(&out).expect("it reads back"), value);
    }

    #[test]
    fn noise_never_panics(noise in "(\\{\\{|\\}\\}|if|range|end|else|\\.|\\$x|:=|=|\\(|\\)|\\||\"|`|1|-| |[a-z]|é|printf|\"%-0.5d\"){0,30}") {
        let _ = try_render(&noise);
    }
}
