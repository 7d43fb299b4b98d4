//! Who a process is: names are looked up in the container's own files. Deciding is pure ([`tare_model::identity`]),
//! reading is in [`files`].

pub(crate) mod files;

pub(crate) use tare_model::identity::{User, home_of, resolve};
