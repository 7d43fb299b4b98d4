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
            flags: &[
                cmd::spec_flags::CONTAINER,
                cmd::spec_flags::LIMITS,
                cmd::spec_flags::RUN,
                cmd::spec_flags::REFUSED,
            ],
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
            flags: &[cmd::spec_flags::CONTAINER, cmd::spec_flags::LIMITS, cmd::spec_flags::REFUSED],
            arity: Arity::at_least(0),
            mixed: false,
        },
        run: cmd::run::create_only,
    },
    Command {
        names: &["attach", "container attach"],
        syntax: Syntax {
            path: "attach",
            usage: "[OPTIONS] CONTAINER",
            about: "Attach local standard input, output, and error streams to a running container",
            flags: &[cmd::attach::ATTACH],
            arity: Arity::exactly(1),
            mixed: true,
        },
        run: cmd::attach::attach,
    },
    Command {
        names: &["exec", "container exec"],
        syntax: Syntax {
            path: "exec",
            usage: "[OPTIONS] CONTAINER COMMAND [ARG...]",
            about: "Execute a command in a running container",
            flags: &[cmd::exec::FLAGS],
            arity: Arity::at_least(2),
            mixed: false,
        },
        run: cmd::exec::exec,
    },
    Command {
        names: &["start", "container start"],
        syntax: Syntax {
            path: "start",
            usage: "[OPTIONS] CONTAINER [CONTAINER...]",
            about: "Start one or more stopped containers",
            flags: &[cmd::attach::START],
            arity: Arity::at_least(1),
            mixed: true,
        },
        run: cmd::attach::start,
    },
    Command {
        names: &["stop", "container stop"],
        syntax: Syntax {
            path: "stop",
            usage: "[OPTIONS] CONTAINER [CONTAINER...]",
            about: "Stop one or more running containers",
            flags: &[cmd::lifecycle::STOP],
            arity: Arity::at_least(1),
            mixed: true,
        },
        run: cmd::lifecycle::stop,
    },
    Command {
        names: &["restart", "container restart"],
        syntax: Syntax {
            path: "restart",
            usage: "[OPTIONS] CONTAINER [CONTAINER...]",
            about: "Restart one or more containers",
            flags: &[cmd::lifecycle::STOP],
            arity: Arity::at_least(1),
            mixed: true,
        },
        run: cmd::lifecycle::restart,
    },
    Command {
        names: &["kill", "container kill"],
        syntax: Syntax {
            path: "kill",
            usage: "[OPTIONS] CONTAINER [CONTAINER...]",
            about: "Kill one or more running containers",
            flags: &[cmd::lifecycle::KILL],
            arity: Arity::at_least(1),
            mixed: true,
        },
        run: cmd::lifecycle::kill,
    },
    Command {
        names: &["rm", "container rm", "container remove"],
        syntax: Syntax {
            path: "rm",
            usage: "[OPTIONS] CONTAINER [CONTAINER...]",
            about: "Remove one or more containers",
            flags: &[cmd::lifecycle::RM],
            arity: Arity::at_least(1),
            mixed: true,
        },
        run: cmd::lifecycle::remove,
    },
    Command {
        names: &["pause", "container pause"],
        syntax: Syntax {
            path: "pause",
            usage: "CONTAINER [CONTAINER...]",
            about: "Pause all processes within one or more containers",
            flags: &[],
            arity: Arity::at_least(1),
            mixed: true,
        },
        run: cmd::lifecycle::pause,
    },
    Command {
        names: &["unpause", "container unpause"],
        syntax: Syntax {
            path: "unpause",
            usage: "CONTAINER [CONTAINER...]",
            about: "Unpause all processes within one or more containers",
            flags: &[],
            arity: Arity::at_least(1),
            mixed: true,
        },
        run: cmd::lifecycle::unpause,
    },
    Command {
        names: &["rename", "container rename"],
        syntax: Syntax {
            path: "rename",
            usage: "CONTAINER NEW_NAME",
            about: "Rename a container",
            flags: &[],
            arity: Arity::exactly(2),
            mixed: true,
        },
        run: cmd::lifecycle::rename,
    },
    Command {
        names: &["update", "container update"],
        syntax: Syntax {
            path: "update",
            usage: "[OPTIONS] CONTAINER [CONTAINER...]",
            about: "Update configuration of one or more containers",
            flags: &[cmd::spec_flags::LIMITS],
            arity: Arity::at_least(1),
            mixed: true,
        },
        run: cmd::update::update,
    },
    Command {
        names: &["wait", "container wait"],
        syntax: Syntax {
            path: "wait",
            usage: "CONTAINER [CONTAINER...]",
            about: "Block until one or more containers stop, then print their exit codes",
            flags: &[],
            arity: Arity::at_least(1),
            mixed: true,
        },
        run: cmd::lifecycle::wait,
    },
    Command {
        names: &["logs", "container logs"],
        syntax: Syntax {
            path: "logs",
            usage: "[OPTIONS] CONTAINER",
            about: "Fetch the logs of a container",
            flags: &[cmd::logs::FLAGS],
            arity: Arity::exactly(1),
            mixed: true,
        },
        run: cmd::logs::logs,
    },
    Command {
        names: &["ps", "container ls", "container list", "container ps"],
        syntax: Syntax {
            path: "ps",
            usage: "[OPTIONS]",
            about: "List containers",
            flags: &[cmd::ps::FLAGS],
            arity: Arity::exactly(0),
            mixed: true,
        },
        run: cmd::ps::ps,
    },
    Command {
        names: &["top", "container top"],
        syntax: Syntax {
            path: "top",
            usage: "CONTAINER [ps OPTIONS]",
            about: "Display the running processes of a container",
            flags: &[],
            arity: Arity::at_least(1),
            mixed: false,
        },
        run: cmd::top::top,
    },
    Command {
        names: &["stats", "container stats"],
        syntax: Syntax {
            path: "stats",
            usage: "[OPTIONS] [CONTAINER...]",
            about: "Display a live stream of container(s) resource usage statistics",
            flags: &[cmd::stats::FLAGS],
            arity: Arity::at_least(0),
            mixed: true,
        },
        run: cmd::stats::stats,
    },
    Command {
        names: &["inspect"],
        syntax: Syntax {
            path: "inspect",
            usage: "[OPTIONS] NAME|ID [NAME|ID...]",
            about: "Return low-level information on containers and images",
            flags: &[cmd::inspect::ANY],
            arity: Arity::at_least(1),
            mixed: true,
        },
        run: cmd::inspect::any,
    },
    Command {
        names: &["container inspect"],
        syntax: Syntax {
            path: "container inspect",
            usage: "[OPTIONS] CONTAINER [CONTAINER...]",
            about: "Display detailed information on one or more containers",
            flags: &[cmd::inspect::CONTAINER],
            arity: Arity::at_least(1),
            mixed: true,
        },
        run: cmd::inspect::container,
    },
    Command {
        names: &["image inspect"],
        syntax: Syntax {
            path: "image inspect",
            usage: "[OPTIONS] IMAGE [IMAGE...]",
            about: "Display detailed information on one or more images",
            flags: &[cmd::inspect::IMAGE],
            arity: Arity::at_least(1),
            mixed: true,
        },
        run: cmd::inspect::image,
    },
    Command {
        names: &["images", "image ls", "image list"],
        syntax: Syntax {
            path: "images",
            usage: "[OPTIONS] [REPOSITORY[:TAG]]",
            about: "List images",
            flags: &[cmd::images::IMAGES],
            arity: Arity::at_most(1),
            mixed: true,
        },
        run: cmd::images::images,
    },
    Command {
        names: &["tag", "image tag"],
        syntax: Syntax {
            path: "tag",
            usage: "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
            about: "Create a tag TARGET_IMAGE that refers to SOURCE_IMAGE",
            flags: &[],
            arity: Arity::exactly(2),
            mixed: true,
        },
        run: cmd::images::tag,
    },
    Command {
        names: &["rmi", "image rm", "image remove"],
        syntax: Syntax {
            path: "rmi",
            usage: "[OPTIONS] IMAGE [IMAGE...]",
            about: "Remove one or more images",
            flags: &[cmd::images::RMI],
            arity: Arity::at_least(1),
            mixed: true,
        },
        run: cmd::images::remove,
    },
    Command {
        names: &["load", "image load"],
        syntax: Syntax {
            path: "load",
            usage: "[OPTIONS]",
            about: "Load an image from a tar archive or STDIN",
            flags: &[cmd::images::LOAD],
            arity: Arity::exactly(0),
            mixed: true,
        },
        run: cmd::images::load,
    },
    Command {
        names: &["import", "image import"],
        syntax: Syntax {
            path: "import",
            usage: "[OPTIONS] file|- [REPOSITORY[:TAG]]",
            about: "Import the contents from a tarball to create a filesystem image",
            flags: &[cmd::images::IMPORT],
            arity: Arity { least: 1, most: 2 },
            mixed: true,
        },
        run: cmd::images::import,
    },
    Command {
        names: &["events", "system events"],
        syntax: Syntax {
            path: "events",
            usage: "[OPTIONS]",
            about: "Get real time events from the server",
            flags: &[cmd::events::FLAGS],
            arity: Arity::exactly(0),
            mixed: true,
        },
        run: cmd::events::events,
    },
    Command {
        names: &["version"],
        syntax: Syntax {
            path: "version",
            usage: "[OPTIONS]",
            about: "Show the version information of client and daemon",
            flags: &[cmd::system::FLAGS],
            arity: Arity::exactly(0),
            mixed: true,
        },
        run: cmd::system::version,
    },
    Command {
        names: &["info", "system info"],
        syntax: Syntax {
            path: "info",
            usage: "[OPTIONS]",
            about: "Display system-wide information",
            flags: &[cmd::system::FLAGS],
            arity: Arity::exactly(0),
            mixed: true,
        },
        run: cmd::system::info,
    },
];
