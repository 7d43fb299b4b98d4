//! `events`.

use super::ps;
use crate::context::{Context, print_line};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Given, list, text};
use crate::options::{filter, when};
use crate::output::format::{executing, parse};
use crate::template::{Root, Value};
use std::io::{BufRead, BufReader};
use tare_docker_api::client::Request;
use time::OffsetDateTime;

/// Flags of `events`.
pub(crate) const FLAGS: &[Flag] = &[
    list("filter", Some('f'), "Filter output based on conditions provided")
        .valued("filter")
        .checked(filter::check),
    text("format", None, "string", "Format output: 'json' or a Go template"),
    text("since", None, "string", "Show all events created since timestamp"),
    text("until", None, "string", "Stream events until this timestamp"),
];

/// `tare events`.
pub(crate) fn events(context: &Context, given: &Given) -> Outcome {
    let format = given.one("format").filter(|f| !f.is_empty());
    let template = format.filter(|f| *f != "json").map(|f| parse(f, "Error parsing format")).transpose()?;
    let mut request = Request::get("/events");
    for (flag, value) in [("since", given.some("since")), ("until", given.some("until"))] {
        if let Some(value) = value {
            let at = when::timestamp(&value, OffsetDateTime::now_utc());
            request = request
                .query(flag, at.map_err(|e| Failure::new(format!("invalid value for \"{flag}\": {e}")))?);
        }
    }
    if let Some(filters) = filter::query(&given.many("filter")) {
        request = request.query("filters", filters);
    }
    let response = context.client()?.send(request)?;
    for line in BufReader::new(response).lines() {
        let line = line.map_err(|e| Failure::io("reading events", &e))?;
        if line.trim().is_empty() {
            continue;
        }
        let event: Value =
            serde_json::from_str(&line).map_err(|e| Failure::new(format!("an event is not JSON: {e}")))?;
        match (&template, format) {
            (Some(template), _) => {
                let root = Root { optional: &|_| true, ..Root::plain(&event) };
                print_line(template.execute(&root).map_err(executing)?)?;
            }
            (None, Some(_)) => print_line(line.trim())?,
            (None, None) => print_line(sentence(&event))?,
        }
    }
    Ok(0)
}

/// `2024-01-02T03:04:05.000000006Z container start ID (image=x, name=y)`.
fn sentence(event: &Value) -> String {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let nanos =
        event["timeNano"].as_i64().unwrap_or_else(|| event["time"].as_i64().unwrap_or(0) * 1_000_000_000);
    let attributes = ps::labels(&event["Actor"]["Attributes"]);
    let attributes: Vec<String> = attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let tail = if attributes.is_empty() { String::new() } else { format!(" ({})", attributes.join(", ")) };
    format!(
        "{} {} {} {}{tail}",
        stamp(nanos),
        word(&event["Type"]),
        word(&event["Action"]),
        word(&event["Actor"]["ID"])
    )
}

fn stamp(nanos: i64) -> String {
    let at =
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(nanos)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (date, time) = (at.date(), at.time());
    format!("{date}T{:02}:{:02}:{:02}.{:09}Z", time.hour(), time.minute(), time.second(), time.nanosecond())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_event_reads_as_one_line() {
        let event = json!({
            "Type": "container", "Action": "start", "Actor": {"ID": "abc", "Attributes": {"name": "web", "image": "x"}},
            "time": 1_704_164_645, "timeNano": 1_704_164_645_000_000_006i64,
        });
        assert_eq!(
            sentence(&event),
            "2024-01-02T03:04:05.000000006Z container start abc (image=x, name=web)"
        );
    }
}
