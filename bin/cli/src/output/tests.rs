//! Output to the character.

use super::format::{Layout, Row, render};
use super::*;
use proptest::prelude::*;
use serde_json::json;
use time::OffsetDateTime;

#[test]
fn sizes_have_dockers_digits() {
    for (bytes, want) in [
        (0.0, "0B"),
        (999.0, "999B"),
        (1000.0, "1kB"),
        (1234.0, "1.23kB"),
        (999_900.0, "1e+03kB"),
        (72_800_000.0, "72.8MB"),
        (1.5e9, "1.5GB"),
    ] {
        assert_eq!(human::size(bytes), want);
    }
    for (bytes, want) in [(0.0, "0B"), (1024.0, "1KiB"), (1_239_450.0, "1.182MiB"), (8e9, "7.451GiB")] {
        assert_eq!(human::size_binary(bytes), want);
    }
}

#[test]
fn durations_have_dockers_words() {
    let (m, h, d) = (60, 3600, 86400);
    for (seconds, want) in [
        (0, "Less than a second"),
        (1, "1 second"),
        (59, "59 seconds"),
        (m, "About a minute"),
        (119, "About a minute"),
        (2 * m, "2 minutes"),
        (59 * m + 59, "59 minutes"),
        (h, "About an hour"),
        (h + 30 * m, "2 hours"),
        (47 * h, "47 hours"),
        (2 * d, "2 days"),
        (13 * d, "13 days"),
        (14 * d, "2 weeks"),
        (59 * d, "8 weeks"),
        (60 * d, "2 months"),
        (729 * d, "24 months"),
        (730 * d, "2 years"),
    ] {
        assert_eq!(human::duration(seconds), want, "{seconds}");
    }
    let now = OffsetDateTime::from_unix_timestamp(1_704_164_645).expect("a time");
    assert_eq!(human::ago(1_704_164_640, now), "5 seconds ago");
    assert_eq!(human::stamp(1_704_164_645), "2024-01-02 03:04:05 +0000 UTC");
}

#[test]
fn text_is_cut_with_an_ellipsis() {
    assert_eq!(human::ellipsis("12345", 5), "12345");
    assert_eq!(human::ellipsis("éèêëé6", 5), "éèêë…");
    assert_eq!(human::ellipsis("日本語", 6), "日本語", "two columns each");
    assert_eq!(human::ellipsis("日本語x", 6), "日本…");
    assert_eq!(human::ellipsis("e\u{301}e\u{301}", 2), "e\u{301}e\u{301}", "what combines takes none");
    assert_eq!(human::ellipsis("x", 0), "…");
    assert_eq!(human::short_id("sha256:0123456789abcdef"), "0123456789ab");
}

#[test]
fn columns_are_counted_as_a_terminal_shows_them() {
    assert_eq!(table::align("日本\tx\nabcde\tx\n", 0, 1), "日本  x\nabcde x\n");
}

#[test]
fn columns_are_as_wide_as_their_widest_cell() {
    let text = "CONTAINER ID\tIMAGE\tNAMES\n0123456789ab\ta-very-long-image-name\tx\n";
    let want = "CONTAINER ID   IMAGE                    NAMES\n0123456789ab   a-very-long-image-name   x\n";
    assert_eq!(table::list(text), want);
    assert_eq!(table::list("A\tB\tC\n"), "A         B         C\n");
    assert_eq!(
        table::list("A\tB\nlonger-than-ten\tB\nno tab\nx\ty\n"),
        "A                 B\nlonger-than-ten   B\nno tab\nx         y\n"
    );
}

const LAYOUT: Layout = Layout {
    kind: "*formatter.ContainerContext",
    titles: &[("ID", "CONTAINER ID"), ("Names", "NAMES")],
    table: "{{.ID}}\t{{.Names}}",
    quiet: "{{.ID}}",
    raw: "id: {{.ID}}\n",
};

fn rows() -> Vec<Row> {
    let row = |id: &str, name: &str| Row {
        columns: vec![("ID", json!(id)), ("Names", json!(name))],
        labels: vec![("com.x.tier".to_owned(), "db".to_owned())],
    };
    vec![row("abc", "web"), row("def", "db")]
}

#[test]
fn a_list_is_a_table_ids_json_or_a_template() {
    let out = |format: Option<&str>, quiet| render(&LAYOUT, format, quiet, &rows()).expect("output");
    assert_eq!(out(None, false), "CONTAINER ID   NAMES\nabc            web\ndef            db\n");
    assert_eq!(out(None, true), "abc\ndef\n");
    assert_eq!(
        out(Some("json"), false),
        "{\"ID\":\"abc\",\"Names\":\"web\"}\n{\"ID\":\"def\",\"Names\":\"db\"}\n"
    );
    assert_eq!(
        out(Some("{{.Names}}\\t{{.Label \"com.x.tier\"}}{{.Label \"no\"}}"), false),
        "web\tdb\ndb\tdb\n"
    );
    assert_eq!(
        out(Some("table {{upper .Names}}\\t{{.Label \"com.x.tier\"}}"), false),
        "NAMES     tier\nWEB       db\nDB        db\n"
    );
}

#[test]
fn whole_rows_are_escaped_as_go_does_and_their_fields_are_not() {
    let rows = [Row { columns: vec![("Names", json!("<a&b>")), ("ID", json!(null))], labels: Vec::new() }];
    let out = |format: &str| render(&LAYOUT, Some(format), false, &rows).expect("output");
    let escaped = r#"{"ID":null,"Names":"\u003ca\u0026b\u003e"}"#.to_owned() + "\n";
    assert_eq!(out("json"), escaped);
    assert_eq!(out("{{json .}}"), escaped);
    assert_eq!(out("{{. | json}}"), escaped);
    assert_eq!(out("{{json .Names}}{{.Names}}"), "\"<a&b>\"<a&b>\n");
    assert_eq!(out("{{.ID}}"), "<nil>\n");
}

#[test]
fn quiet_gives_ids_for_tables_and_raw_is_a_format() {
    for format in [None, Some("table"), Some("table {{.Names}}")] {
        assert_eq!(render(&LAYOUT, format, true, &rows()).expect("output"), "abc\ndef\n", "{format:?}");
    }
    assert_eq!(render(&LAYOUT, Some("{{.Names}}"), true, &rows()).expect("output"), "web\ndb\n");
    assert_eq!(render(&LAYOUT, Some("raw"), false, &rows()).expect("output"), "id: abc\n\nid: def\n\n");
}

#[test]
fn a_template_that_cannot_be_read_is_told_from_one_that_does_not_fit() {
    let error = render(&LAYOUT, Some("{{.ID"), false, &rows()).expect_err("unclosed");
    assert_eq!(
        (error.code, error.message.as_str()),
        (1, "failed to parse template: template: :1: unclosed action")
    );
    let error = format::parse("{{.ID", "template parsing error").expect_err("unclosed");
    assert_eq!(
        (error.code, error.message.as_str()),
        (64, "template parsing error: template: :1: unclosed action")
    );
}

#[test]
fn a_column_that_is_not_there_is_named() {
    let error = render(&LAYOUT, Some("{{.Foo}}"), false, &rows()).expect_err("no such column");
    assert!(
        error.message.ends_with("at <.Foo>: can't evaluate field Foo in type *formatter.ContainerContext"),
        "{}",
        error.message
    );
}

#[test]
fn an_empty_list_still_has_its_titles() {
    assert_eq!(render(&LAYOUT, None, false, &[]).expect("output"), "CONTAINER ID   NAMES\n");
    assert_eq!(render(&LAYOUT, None, true, &[]).expect("output"), "");
}

#[test]
fn json_is_laid_out_without_reordering() {
    let raw = r#"{"b":1,"a":[],"c":{},"d":[1,{"x":"a,{\"b"}],"e": [ ]}"#;
    let want = "{\n    \"b\": 1,\n    \"a\": [],\n    \"c\": {},\n    \"d\": [\n        1,\n        {\n            \"x\": \"a,{\\\"b\"\n        }\n    ],\n    \"e\": []\n}";
    assert_eq!(json::indent(raw), want);
    assert_eq!(json::quote("a\"b\\\n\u{1}é"), "\"a\\\"b\\\\\\n\\x01é\"");
    assert_eq!(json::quote("\u{7}\u{7f}\u{1b}[2J"), r#""\a\x7f\x1b[2J""#);
    assert_eq!(json::quote("a\u{202e}b\u{9b}c"), r#""a\u202eb\u009bc""#, "nothing turns the line around");
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|b| json!(b)),
        any::<i32>().prop_map(|n| json!(n)),
        "\\PC{0,8}|[\\\\\"]{0,4}".prop_map(|s| json!(s))
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            prop::collection::btree_map("[a-z\"]{0,4}", inner, 0..4).prop_map(|m| json!(m)),
        ]
    })
}

proptest! {
    #[test]
    fn indented_json_means_the_same(value in any_json()) {
        let text = json::indent(&value.to_string());
        prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&text).expect("valid JSON"), value);
        prop_assert_eq!(json::indent(&text), text);
    }

    #[test]
    fn aligned_lines_keep_their_cells(cells in prop::collection::vec(prop::collection::vec("[a-zé]{0,12}", 3), 1..6)) {
        let text: String = cells.iter().map(|row| row.join("\t") + "\n").collect();
        let out = table::list(&text);
        let starts: Vec<Option<usize>> = (0..3).map(|c| {
            let width = |column: usize| cells.iter().map(|r| r[column].chars().count() + 3).max().unwrap_or(0).max(10);
            Some((0..c).map(width).sum())
        }).collect();
        for (line, row) in out.lines().zip(&cells) {
            for (cell, start) in row.iter().zip(&starts) {
                let at: String = line.chars().skip(start.expect("a start")).take(cell.chars().count()).collect();
                prop_assert_eq!(&at, cell);
            }
        }
    }
}
