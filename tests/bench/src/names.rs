//! Questions about names: how many the engine answers, and what of a core that takes it.

use serde_json::json;
use tare_kit::wait;

use crate::Done;
use crate::machine;
use crate::report::{Goal, Row};
use crate::subject::Subject;
use crate::tools::said;
use crate::work::{Bench, IMAGE};

const NETWORK: &str = "bench-names";

impl Bench<'_> {
    /// Questions for the name of another container, asked from inside of one as fast as they are answered; divided by the
    /// processor time of the daemon that answers them.
    pub(crate) fn names(&self) -> Done<Vec<Row>> {
        let questions = self.place.join("questions");
        std::fs::write(&questions, "bench-named A\n").map_err(|e| format!("cannot write questions: {e}"))?;
        let ids = self.each(|subject| {
            subject.request("POST", "/networks/create", Some(&json!({"Name": NETWORK})))?;
            let container = json!({
                "Image": IMAGE, "Cmd": ["sleep", "1000000"], "HostConfig": {"NetworkMode": NETWORK},
                "NetworkingConfig": {"EndpointsConfig": {NETWORK: {"Aliases": ["bench-named"]}}},
            });
            let id = subject.create(&container)?;
            subject.start(&id).map(|()| id)
        })?;
        let line = format!("dnsperf -s 127.0.0.11 -d {} -l 2 -c 4 -q 64", questions.display());
        let (mut rates, mut per_core) =
            (vec![Vec::new(); self.subjects.len()], vec![Vec::new(); self.subjects.len()]);
        for round in 0..=self.rounds {
            for (at, subject) in self.subjects.iter().enumerate() {
                let (rate, of_core) = self.ask(subject, &ids[at], &line)?;
                if round > 0 {
                    rates[at].push(rate);
                    per_core[at].push(of_core);
                }
            }
        }
        self.each_at(|at, subject| {
            subject.remove(&ids[at])?;
            let gone = || subject.request("DELETE", &format!("/networks/{NETWORK}"), None).ok();
            wait::until(wait::PATIENCE, gone).map(drop).ok_or("a network that stays".into())
        })?;
        Ok(vec![
            self.row("names of containers, questions answered", "/s", None, rates),
            self.row(
                "names of containers, questions answered per second of the daemon's processor time",
                "/s",
                Some(Goal::Above(20_000.0)),
                per_core,
            ),
        ])
    }

    /// Questions per second, and per second of the daemon's processor time.
    fn ask(&self, subject: &Subject<'_>, id: &str, line: &str) -> Done<(f64, f64)> {
        let inside = format!("--net=/proc/{}/ns/net", subject.pid(id)?);
        let words = [vec!["nsenter".into(), inside], self.tools.words(0, line)?].concat();
        let before = machine::processor_time(subject.daemon)?;
        let text = said(tare_kit::Cmd::new(&words[0]).args(&words[1..]))?;
        let took = machine::processor_time(subject.daemon)? - before;
        let field = |label: &str| {
            let value = text.lines().find_map(|line| line.trim().strip_prefix(label))?;
            value.split_whitespace().next()?.parse::<f64>().ok()
        };
        match (field("Queries completed:"), field("Queries lost:"), field("Queries per second:")) {
            (Some(answered), Some(lost), Some(rate)) if lost * 1000.0 <= answered && took > 0.0 => {
                Ok((rate, answered / took))
            }
            _ => Err(format!("{}: dnsperf said {text}", subject.name)),
        }
    }
}
