//! End-to-end tests, by subject. Each test has an engine of its own and fails if that engine leaves anything behind.
//!
//! What Docker documents is asked for as Docker documents it, and these tests pass on Docker too
//! (`TARE_TEST_PEER=/path/docker.sock`, see the kit); tests of our own features begin with [`ours`].

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test, as tests do")]

mod api;
mod app;
mod apparmor;
mod attacks;
mod block_io;
mod docker_client;
mod exec;
mod faults;
mod hostile;
mod images;
mod isolation;
mod joining;
mod lifecycle;
mod limits;
mod logs;
mod mounts;
mod neighbours;
mod networks;
mod networks_crowd;
mod networks_refused;
mod oci;
mod oci_peers;
mod rates;
mod reach;
mod rootless;
mod rootless_networks;
mod rows;
mod run;
mod security;
mod selinux;
mod services;
mod survive;
mod systemd_starts;
mod terminal;
mod trap;
mod userns;
mod users_systemd;

/// True if our own engine is under test; a test of our own features returns at once if not.
fn ours() -> bool {
    !tare_kit::Engine::is_peer()
}

/// True if the reference is a Docker of 2020, which lacks OCI layouts and cannot give all capabilities of a new kernel.
fn old_peer() -> bool {
    std::env::var_os("TARE_TEST_PEER_OLD").is_some()
}

/// Lines of some output.
fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}
