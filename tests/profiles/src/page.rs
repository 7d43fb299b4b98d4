//! The page: a table of jobs and profiles.

use std::fmt::Write;

use crate::Outcome;
use crate::jobs::{Job, PROFILES};

const HEAD: &str = "\
# What the security profiles break

Written by `cargo xtask profiles`; do not edit. Images made from Debian packages, one real job of each, run with
`--network none --security-opt profile=NAME` and no other option. A job works if it ends well and gives the right answer.

| profile | capabilities | no_new_privs | system calls |
|---|---|---|---|
| `default` | Docker's 14 | off | Docker's list; socket families only unix, inet, inet6, netlink, packet; no 32-bit calls unless the image is 32-bit |
| `strict` | CRI-O's 9 | on | 22 fewer (debuggers, splice, kernel message queues, files by handle, …); netlink only for routes; no packet sockets; no device nodes; nothing typed into terminals |
| `docker` | Docker's 14 | off | Docker 29.7's own: every socket family but AF_ALG and AF_VSOCK, i386 and x32 calls |

";

/// The whole page.
pub(crate) fn page(rows: &[(&Job, Vec<Outcome>)]) -> String {
    let mut page = String::from(HEAD);
    let _ = writeln!(page, "| image | job | {} | why |", PROFILES.map(|p| format!("`{p}`")).join(" | "));
    let _ = writeln!(page, "|---|---|{}---|", "---|".repeat(PROFILES.len()));
    for (job, outcomes) in rows {
        let cells: Vec<&str> =
            outcomes.iter().map(|o| if o.works { "works" } else { "**breaks**" }).collect();
        let _ = writeln!(page, "| {} | {} | {} | {} |", job.name, job.what, cells.join(" | "), job.why);
    }
    let broken = |at: usize| rows.iter().filter(|(_, outcomes)| !outcomes[at].works).count();
    let counts: Vec<String> = PROFILES
        .iter()
        .enumerate()
        .map(|(at, profile)| format!("`{profile}` breaks {}", broken(at)))
        .collect();
    let _ = writeln!(page, "\nOf {} jobs {}.", rows.len(), counts.join(", "));
    page
}
