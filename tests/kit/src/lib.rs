//! What tests stand on.
//!
//! * [`Engine`]: a `tared` of a test's own, with `tare`, the stock `docker` client and the raw API pointed at it, and a
//!   check at its end that nothing is left on the machine
//! * [`Image`] and [`Layer`]: images made on the spot, honest and hostile, as archives in both layouts
//! * [`Cmd`] and [`Pty`]: programs with an end in sight, on pipes or on a terminal
//! * [`Canary`]: a tree on the host that nothing may touch
//! * [`Race`]: two names that change places while containers start
//! * [`User`]: an ordinary user, with an engine of that user's own
//! * [`Host`]: the machine before and after, for attacks
//! * [`Space`]: a network namespace that stands for a machine's, and its neighbours
//! * [`perl`]: an interpreter for system calls by number
//! * [`debs`]: Debian packages unpacked under `target/`, the machine unchanged
//!
//! The kit knows no crate of the house: it meets the programs as a stranger does. Suites that ask only for what Docker
//! documents run on a reference as well: `TARE_TEST_PEER=/path/docker.sock cargo test -p tare-e2e` gives every
//! [`Engine`] that daemon and the stock client instead of ours (tests of our own features step aside).
//!
//! Read `engine.rs` first.

pub mod archive;
pub mod canary;
pub mod cmd;
pub mod debs;
pub mod engine;
pub mod host;
pub mod http;
pub mod image;
pub mod leftovers;
pub mod perl;
pub mod pty;
pub mod race;
pub mod space;
pub mod user;
pub mod wait;

pub use canary::Canary;
pub use cmd::{Cmd, Output};
pub use engine::Engine;
pub use host::Host;
pub use image::{Image, Layer};
pub use pty::Pty;
pub use race::{Race, Rounds};
pub use space::Space;
pub use user::User;
