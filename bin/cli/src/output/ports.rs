//! Ports of a container as lists show them.

use serde_json::Value;

/// A run of neighbouring ports that reach each the port of its own number.
struct Run {
    ip: String,
    kind: String,
    first: u64,
    last: u64,
}

// === impl Run ===

impl Run {
    fn text(&self) -> String {
        let ports = if self.first == self.last {
            self.first.to_string()
        } else {
            format!("{}-{}", self.first, self.last)
        };
        match self.ip.as_str() {
            "" => format!("{ports}/{}", self.kind),
            ip => format!("{}:{ports}->{ports}/{}", bracketed(ip), self.kind),
        }
    }
}

/// `Ports` of a row of `GET /containers/json`: `80/tcp, 0.0.0.0:8080->80/tcp`, neighbours folded where both numbers go on.
pub(crate) fn ports(value: &Value) -> String {
    let mut all: Vec<&Value> = value.as_array().into_iter().flatten().collect();
    let text = |port: &Value, field: &str| port[field].as_str().unwrap_or_default().to_owned();
    let number = |port: &Value, field: &str| port[field].as_u64().unwrap_or(0);
    all.sort_by_key(|p| (number(p, "PrivatePort"), text(p, "IP"), number(p, "PublicPort"), text(p, "Type")));
    let (mut runs, mut others): (Vec<Run>, Vec<String>) = (Vec::new(), Vec::new());
    for port in all {
        let (ip, kind, private) = (text(port, "IP"), text(port, "Type"), number(port, "PrivatePort"));
        let public = number(port, "PublicPort");
        if !ip.is_empty() && public != private {
            others.push(format!("{}:{public}->{private}/{kind}", bracketed(&ip)));
            continue;
        }
        match runs.iter_mut().rev().find(|run| run.ip == ip && run.kind == kind) {
            Some(run) if run.last + 1 == private => run.last = private,
            _ => runs.push(Run { ip, kind, first: private, last: private }),
        }
    }
    runs.iter().map(Run::text).chain(others).collect::<Vec<_>>().join(", ")
}

/// An address before a colon.
pub(crate) fn bracketed(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]") } else { ip.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn neighbours_are_folded_and_the_rest_stands_behind() {
        let port = |ip: &str, public: u64, private: u64, kind: &str| match ip {
            "" => json!({"PrivatePort": private, "Type": kind}),
            ip => json!({"IP": ip, "PublicPort": public, "PrivatePort": private, "Type": kind}),
        };
        for (list, want) in [
            (vec![], ""),
            (vec![port("", 0, 80, "tcp")], "80/tcp"),
            (
                vec![port("", 0, 81, "tcp"), port("", 0, 80, "tcp"), port("", 0, 83, "tcp")],
                "80-81/tcp, 83/tcp",
            ),
            (
                vec![port("0.0.0.0", 8080, 80, "tcp"), port("::", 8080, 80, "tcp")],
                "0.0.0.0:8080->80/tcp, [::]:8080->80/tcp",
            ),
            (
                vec![port("0.0.0.0", 80, 80, "tcp"), port("0.0.0.0", 81, 81, "tcp"), port("", 0, 53, "udp")],
                "53/udp, 0.0.0.0:80-81->80-81/tcp",
            ),
            (
                vec![
                    port("0.0.0.0", 8000, 80, "tcp"),
                    port("0.0.0.0", 8001, 81, "tcp"),
                    port("", 0, 443, "tcp"),
                ],
                "443/tcp, 0.0.0.0:8000->80/tcp, 0.0.0.0:8001->81/tcp",
            ),
        ] {
            assert_eq!(ports(&json!(list)), want);
        }
    }
}
