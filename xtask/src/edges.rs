//! `cargo xtask edges`: who may import whom.
//!
//! Between crates: `cargo metadata` against the table of DESIGN §2 ([`table`]). Inside a crate: no import cycle
//! among its top modules ([`modules`]), read from the sources by a small tokenizer ([`tokens`]) and path finder
//! ([`paths`]). What no check holds, tangles.

mod cycle;
mod modules;
mod paths;
mod table;
mod tokens;

use crate::shell::{self, Done};

/// Checks both kinds of edges, prints every fault, fails if there was one.
pub(crate) fn run() -> Done {
    let metadata = shell::output(&mut shell::cargo(&["metadata", "--format-version", "1", "--no-deps"]))?;
    let members = table::members(&metadata)?;
    let mut faults = table::faults(&members);
    for member in &members {
        faults.extend(modules::faults(&member.name, &member.root)?);
    }
    for fault in &faults {
        eprintln!("edges: {fault}");
    }
    if faults.is_empty() {
        println!("edges: {} crates, imports as DESIGN has them, no cycles", members.len());
        return Ok(());
    }
    Err(format!("{} wrong edges", faults.len()))
}
