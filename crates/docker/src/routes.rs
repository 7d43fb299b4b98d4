//! The table of routes: everything the API answers to, in Docker's order, and what is refused by name.

use crate::backend::Backend;
use crate::handlers::{
    attach, containers, events, execs, faults, images, listing, logs, networks, ports, prune, refused, stats,
    system, wait,
};
use crate::http::{Route, Router, Verb};

/// One row each: `Verb "pattern" => handler` or `Verb "pattern" refused "why"`.
macro_rules! routes {
    ($($verb:ident $pattern:literal $kind:tt $target:expr;)*) => {
        vec![$(Route { verb: Verb::$verb, pattern: $pattern, handler: routes!(@ $kind $target) },)*]
    };
    (@ does $handler:expr) => { |backend, call| Box::pin($handler(backend, call)) };
    (@ refused $why:expr) => { |_, _| Box::pin(refused($why)) };
}

const REGISTRIES: &str = "registries are not supported yet; move images with docker save and docker load";
const COPYING: &str =
    "copying files in and out of containers (archive) is not supported yet; use a bind mount";
const BUILDING: &str = "building images is not supported yet";
const SAVING: &str = "saving images (get) is not supported yet";
const VOLUMES: &str = "named volumes are not supported yet; use a bind mount";
const SWARM: &str = "clusters (swarm) are not part of this engine";
const PLUGINS: &str = "plugins are not part of this engine";

/// The table. The first row that fits is taken, so fixed paths stand before patterns.
#[rustfmt::skip]
pub(crate) fn table<B: Backend>() -> Router<B> {
    Router::new(routes! {
        Get    "/_ping"                          does system::ping;
        Head   "/_ping"                          does system::ping;
        Get    "/version"                        does system::version;
        Get    "/info"                           does system::info;
        Get    "/events"                         does events::events;
        Get    "/system/df"                      does system::disk_usage;

        Get    "/containers/json"                does listing::list;
        Post   "/containers/create"              does containers::create;
        Post   "/containers/prune"               does prune::containers;
        Get    "/containers/{id}/json"           does containers::inspect;
        Get    "/containers/{id}/top"            does containers::top;
        Get    "/containers/{id}/logs"           does logs::logs;
        Get    "/containers/{id}/stats"          does stats::stats;
        Post   "/containers/{id}/start"          does containers::start;
        Post   "/containers/{id}/stop"           does containers::stop;
        Post   "/containers/{id}/restart"        does containers::restart;
        Post   "/containers/{id}/kill"           does containers::kill;
        Post   "/containers/{id}/pause"          does containers::pause;
        Post   "/containers/{id}/unpause"        does containers::unpause;
        Post   "/containers/{id}/rename"         does containers::rename;
        Post   "/containers/{id}/resize"         does containers::resize;
        Post   "/containers/{id}/attach"         does attach::attach;
        Post   "/containers/{id}/wait"           does wait::wait;
        Post   "/containers/{id}/exec"           does execs::create;
        Delete "/containers/{id}"                does containers::remove;
        Get    "/containers/{id}/attach/ws"      refused "attaching by web socket is not supported; use POST attach";
        Get    "/containers/{id}/archive"        refused COPYING;
        Head   "/containers/{id}/archive"        refused COPYING;
        Put    "/containers/{id}/archive"        refused COPYING;
        Get    "/containers/{id}/changes"        refused "listing changed files is not supported yet";
        Get    "/containers/{id}/export"         refused "exporting containers is not supported yet";
        Post   "/containers/{id}/update"         does containers::update;
        Post   "/containers/{id}/ports"          does ports::change;
        Post   "/containers/{id}/faults"         does faults::add;
        Delete "/containers/{id}/faults"         does faults::clear;
        Get    "/faults"                         does faults::list;
        Delete "/faults/{id}"                    does faults::remove;

        Post   "/exec/{id}/start"                does execs::start;
        Post   "/exec/{id}/resize"               does execs::resize;
        Get    "/exec/{id}/json"                 does execs::inspect;

        Get    "/images/json"                    does images::list;
        Post   "/images/load"                    does images::load;
        Post   "/images/create"                  does images::create;
        Post   "/images/prune"                   does prune::images;
        Get    "/images/search"                  refused REGISTRIES;
        Get    "/images/get"                     refused SAVING;
        Get    "/images/{name*}/get"             refused SAVING;
        Get    "/images/{name*}/json"            does images::inspect;
        Get    "/images/{name*}/history"         does images::history;
        Post   "/images/{name*}/tag"             does images::tag;
        Post   "/images/{name*}/push"            refused REGISTRIES;
        Delete "/images/{name*}"                 does images::remove;
        Get    "/distribution/{name*}/json"      refused REGISTRIES;
        Post   "/auth"                           refused REGISTRIES;
        Post   "/commit"                         refused "making images of containers (commit) is not supported yet";
        Post   "/build"                          refused BUILDING;
        Post   "/build/cancel"                   refused BUILDING;
        Post   "/build/prune"                    does system::prune_builds;
        Post   "/session"                        refused BUILDING;
        Post   "/grpc"                           refused BUILDING;

        Get    "/networks"                       does networks::list;
        Post   "/networks/create"                does networks::create;
        Post   "/networks/prune"                 does prune::networks;
        Get    "/networks/{id}"                  does networks::inspect;
        Post   "/networks/{id}/update"           does networks::update;
        Post   "/networks/{id}/connect"          does networks::connect;
        Post   "/networks/{id}/disconnect"       does networks::disconnect;
        Delete "/networks/{id}"                  does networks::remove;

        Get    "/volumes"                        does system::volumes;
        Post   "/volumes/create"                 refused VOLUMES;
        Post   "/volumes/prune"                  refused VOLUMES;
        Get    "/volumes/{name}"                 does system::volume;
        Put    "/volumes/{name}"                 refused VOLUMES;
        Delete "/volumes/{name}"                 refused VOLUMES;

        Get    "/plugins"                        refused PLUGINS;
        Get    "/swarm"                          refused SWARM;
        Post   "/swarm/init"                     refused SWARM;
        Post   "/swarm/join"                     refused SWARM;
        Get    "/services"                       refused SWARM;
        Get    "/tasks"                          refused SWARM;
        Get    "/nodes"                          refused SWARM;
        Get    "/secrets"                        refused SWARM;
        Get    "/configs"                        refused SWARM;
    })
}
