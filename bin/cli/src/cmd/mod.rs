//! What each command does. One file a subject; the table of them is `commands.rs`.

pub(crate) mod run;
pub(crate) mod spec;
pub(crate) mod spec_flags;
