//! The table of commands: names, syntax, what runs them; and what Docker has that is not there yet.

use crate::cmd;
use crate::context::Context;
use crate::failure::Outcome;
use crate::flags::{Arity, Given, Syntax};

/// One command.
pub(crate) struct Command {
    /// All its names; the first is the one that help shows.
    pub(crate) names: &'static [&'static str],
    pub(crate) syntax: Syntax,
    pub(crate) run: fn(&Context, &Given) -> Outcome,
}

/// Every command.
pub(crate) static COMMANDS: &[Command] = &[
    Command {
        names: &["run", "container run"],
        syntax: Syntax {
            path: "run",
            usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
            about: "Create and run a new container from an image",
            flags: &[cmd::spec_flags::CONTAINER, cmd::spec_flags::RUN, cmd::spec_flags::REFUSED],
            arity: Arity::at_least(0),
            mixed: false,
        },
        run: cmd::run::run,
    },
    Command {
        names: &["create", "container create"],
        syntax: Syntax {
            path: "create",
            usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
            about: "Create a new container",
            flags: &[cmd::spec_flags::CONTAINER, cmd::spec_flags::REFUSED],
            arity: Arity::at_least(0),
            mixed: false,
        },
        run: cmd::run::create_only,
    },
];
