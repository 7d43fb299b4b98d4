//! Plans as values ([`plan`], [`devices`]).

mod devices;
mod plan;

use oci_spec::runtime::LinuxResources;

fn resources(json: &str) -> LinuxResources {
    serde_json::from_str(json).unwrap()
}
