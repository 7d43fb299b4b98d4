//! `network fault`: add, ls, rm: networks of containers that go wrong on purpose.

use super::path_name;
use crate::context::{Context, for_each, print, print_line};
use crate::failure::{Failure, Outcome};
use crate::flags::{Flag, Given, list as many, switch, text};
use crate::options::{Parsed, when};
use crate::output::format::{Layout, Row, render};
use crate::output::human;
use serde_json::Value;
use tare_docker_api::client::Request;
use tare_docker_api::extension::{Fault, FaultRequest, Suffered};
use tare_docker_api::stamp;
use tare_model::fault::Direction;
use tare_model::shaping;

/// Flags of `network fault add`.
pub(crate) const ADD: &[Flag] = &[
    text("corrupt", None, "percent", "Packets in which one bit is wrong").checked(check_percent),
    text("direction", None, "string", "Packets that suffer: in, out or both (default \"both\", each way)")
        .checked(check_direction),
    text("duplicate", None, "percent", "Packets that come twice").checked(check_percent),
    text("for", None, "duration", "Ends by itself after this time (e.g. 30s)").checked(check_time),
    text("jitter", None, "duration", "Varies the latency up and down by so much").checked(check_time),
    text("latency", None, "duration", "Holds each packet back (e.g. 100ms), each way").checked(check_time),
    text("loss", None, "percent", "Packets that are lost (e.g. 5%)").checked(check_percent),
    text("network", None, "network", "On this network alone (default: on all of the container's)"),
    many("partition", None, "Cuts off from a container, or from a whole network, both ways; may be repeated")
        .valued("name"),
    text("rate", None, "rate", "What passes per second at most (e.g. 1mbit, 100kB)").checked(check_rate),
    text("reorder", None, "percent", "Packets that the latency does not hold back").checked(check_percent),
];
/// Flags of `network fault ls`.
pub(crate) const LIST: &[Flag] = &[
    text("format", None, "string", "Format output: 'table', 'table TEMPLATE', 'json' or a Go template"),
    switch("no-trunc", None, "Do not truncate the output"),
    switch("quiet", Some('q'), "Only display fault IDs"),
];
/// Flags of `network fault rm`.
pub(crate) const REMOVE: &[Flag] = &[
    switch("all", Some('a'), "End all faults of all containers"),
    many("container", None, "End all faults of a container; may be repeated").valued("container"),
];

const LAYOUT: Layout = Layout {
    kind: "*fault.faultContext",
    titles: &[
        ("ID", "FAULT ID"),
        ("Container", "CONTAINER"),
        ("Network", "NETWORK"),
        ("Direction", "DIRECTION"),
        ("Fault", "FAULT"),
        ("Since", "SINCE"),
        ("Until", "UNTIL"),
    ],
    table: "{{.ID}}\t{{.Container}}\t{{.Network}}\t{{.Direction}}\t{{.Fault}}\t{{.Until}}",
    quiet: "{{.ID}}",
    raw: "",
};

/// `tare network fault add`.
pub(crate) fn add(context: &Context, given: &Given) -> Outcome {
    let body = request(given).map_err(Failure::new)?;
    let request = Request::post(format!("/containers/{}/faults", path_name(&given.args[0]))).json(&body)?;
    let made: Fault = context.client()?.json(request)?;
    print_line(human::short_id(&made.id))?;
    Ok(0)
}

fn request(given: &Given) -> Parsed<FaultRequest> {
    let time = |flag: &str| given.one(flag).map(time).transpose();
    let share = |flag: &str| given.one(flag).map(percent).transpose();
    Ok(FaultRequest {
        network: given.some("network"),
        direction: given.some("direction"),
        suffered: Suffered {
            latency: time("latency")?,
            jitter: time("jitter")?,
            loss: share("loss")?,
            corrupt: share("corrupt")?,
            duplicate: share("duplicate")?,
            reorder: share("reorder")?,
            rate: given.one("rate").map(rate).transpose()?,
        },
        partition: given.many("partition").into_iter().map(str::to_owned).collect(),
        duration: time("for")?,
    })
}

/// `tare network fault ls`.
pub(crate) fn list(context: &Context, given: &Given) -> Outcome {
    let mut client = context.client()?;
    let mut rows: Vec<Row> = Vec::new();
    let mut ask = |container: Option<&str>| -> Result<(), Failure> {
        let mut request = Request::get("/faults");
        if let Some(container) = container {
            request = request.query("container", container);
        }
        let found: Vec<Fault> = client.json(request)?;
        rows.extend(found.iter().map(|fault| row(fault, given.on("no-trunc"))));
        Ok(())
    };
    match given.args.as_slice() {
        [] => ask(None)?,
        containers => containers.iter().try_for_each(|container| ask(Some(container)))?,
    }
    print(&render(&LAYOUT, given.one("format"), given.on("quiet"), &rows)?)?;
    Ok(0)
}

fn row(fault: &Fault, whole: bool) -> Row {
    let moment = |text: &str| {
        let seconds = stamp::parse_rfc3339(text).map_or(0, |nanos| nanos / 1_000_000_000);
        human::stamp(i64::try_from(seconds).unwrap_or(0))
    };
    let network = if fault.network.is_empty() { "all" } else { &fault.network };
    let columns = vec![
        ("ID", Value::from(if whole { fault.id.clone() } else { human::short_id(&fault.id) })),
        ("Container", Value::from(fault.name.clone())),
        ("Network", Value::from(network)),
        ("Direction", Value::from(fault.direction.clone())),
        ("Fault", Value::from(fault.summary.clone())),
        ("Since", Value::from(moment(&fault.since))),
        ("Until", Value::from(fault.until.as_deref().map(moment).unwrap_or_default())),
    ];
    Row { columns, labels: Vec::new() }
}

/// `tare network fault rm`.
pub(crate) fn remove(context: &Context, given: &Given) -> Outcome {
    let containers = given.many("container");
    let mut client = context.client()?;
    let mut ids = given.args.clone();
    if given.on("all") {
        if !ids.is_empty() || !containers.is_empty() {
            return Err(Failure::new(
                "network fault rm: --all leaves nothing to be named: leave one of both out",
            ));
        }
        let found: Vec<Fault> = client.json(Request::get("/faults"))?;
        ids.extend(found.into_iter().map(|fault| fault.id));
    } else if ids.is_empty() && containers.is_empty() {
        return Err(Failure::new(
            "tare: 'tare network fault rm' takes at least 1 fault, --container or --all\n\n\
             Run 'tare network fault rm --help' for more information",
        ));
    }
    let of_containers: Vec<String> = containers.into_iter().map(str::to_owned).collect();
    let cleared = for_each(&of_containers, |container| {
        let path = format!("/containers/{}/faults", path_name(container));
        let answer: Value = client.json(Request::delete(path))?;
        let ended = answer["Ended"].as_array().into_iter().flatten().filter_map(Value::as_str);
        ended.map(human::short_id).try_for_each(print_line)
    })?;
    let removed = for_each(&ids, |id| {
        client.done(Request::delete(format!("/faults/{}", path_name(id))))?;
        print_line(human::short_id(id))
    })?;
    Ok(cleared.max(removed))
}

/// `100ms`, in nanoseconds.
fn time(text: &str) -> Parsed<u64> {
    let nanos = when::duration(text).and_then(|nanos| u64::try_from(nanos).ok()).filter(|nanos| *nanos > 0);
    nanos.ok_or_else(|| format!("invalid duration {text:?}: want 100ms, 1.5s, 2m"))
}

/// `5%` or `5`.
fn percent(text: &str) -> Parsed<f64> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
    let fits = |percent: &f64| *percent > 0.0 && *percent <= 100.0;
    number
        .filter(fits)
        .ok_or_else(|| format!("invalid percentage {text:?}: want more than 0% and at most 100%"))
}

fn rate(text: &str) -> Parsed<u64> {
    shaping::quantity(text).map_err(|e| e.to_string())
}

fn check_time(text: &str) -> Parsed<()> {
    time(text).map(drop)
}

fn check_percent(text: &str) -> Parsed<()> {
    percent(text).map(drop)
}

fn check_rate(text: &str) -> Parsed<()> {
    rate(text).map(drop)
}

fn check_direction(text: &str) -> Parsed<()> {
    text.parse::<Direction>().map(drop).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::COMMANDS;
    use crate::flags::{Usage, parse};
    use serde_json::json;

    fn sent(line: &str) -> Result<Value, String> {
        let found = COMMANDS.iter().find(|c| c.names[0] == "network fault add").expect("there");
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match parse(&found.syntax, &words) {
            Ok(Usage::Run(given)) => request(&given).map(|body| json!(body)),
            Ok(Usage::Help) => panic!("{line}"),
            Err(failure) => Err(failure.message),
        }
    }

    #[test]
    fn what_is_to_go_wrong_is_sent_in_the_apis_units() {
        assert_eq!(
            sent(
                "web --network front --latency 100ms --jitter 10ms --loss 5% --corrupt 0.1 --duplicate 1% --reorder 2% \
                 --rate 1mbit --direction in --for 30s"
            ),
            Ok(
                json!({"Network": "front", "Direction": "in", "Latency": 100_000_000, "Jitter": 10_000_000, "Loss": 5.0,
                "Corrupt": 0.1, "Duplicate": 1.0, "Reorder": 2.0, "Rate": 125_000, "Duration": 30_000_000_000_u64})
            )
        );
        assert_eq!(
            sent("--partition db --partition network:back web"),
            Ok(json!({"Partition": ["db", "network:back"]}))
        );
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (line, word) in [
            ("web --loss 0", "percentage"),
            ("web --loss 101%", "percentage"),
            ("web --latency 100", "duration"),
            ("web --latency -1s", "duration"),
            ("web --rate 1mb", "rate"),
            ("web --direction up", "direction"),
        ] {
            let e = sent(line).expect_err(line);
            assert!(e.contains(word), "{line}: {e}");
        }
    }

    #[test]
    fn faults_are_listed_in_a_table() {
        let fault = Fault {
            id: "0123456789abcdef".into(),
            name: "web".into(),
            direction: "both".into(),
            summary: "latency 100ms".into(),
            since: "2024-01-02T03:04:00Z".into(),
            until: Some("2024-01-02T03:04:30Z".into()),
            ..Fault::default()
        };
        let table = render(&LAYOUT, None, false, &[row(&fault, false)]).expect("a table");
        assert_eq!(
            table,
            "FAULT ID       CONTAINER   NETWORK   DIRECTION   FAULT           UNTIL\n\
             0123456789ab   web         all       both        latency 100ms   2024-01-02 03:04:30 +0000 UTC\n"
        );
    }
}
