//! What each command does. One file a subject; the table of them is `commands.rs`.

pub(crate) mod attach;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod fault;
pub(crate) mod images;
pub(crate) mod inspect;
pub(crate) mod lifecycle;
pub(crate) mod logs;
pub(crate) mod network;
pub(crate) mod port;
pub(crate) mod ps;
pub(crate) mod run;
pub(crate) mod spec;
pub(crate) mod spec_flags;
pub(crate) mod stats;
pub(crate) mod system;
pub(crate) mod top;
pub(crate) mod update;

/// A container's or image's name as part of a path: the characters of references stay as they are, as Docker sends them.
fn path_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for part in name.split_inclusive(['/', ':', '@']) {
        match part.strip_suffix(['/', ':', '@']) {
            Some(before) => {
                out.push_str(&tare_docker_api::client::percent_encode(before));
                out.push_str(&part[before.len()..]);
            }
            None => out.push_str(&tare_docker_api::client::percent_encode(part)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::path_name;

    #[test]
    fn a_name_in_a_path_can_be_nothing_but_a_name() {
        assert_eq!(path_name("host:5000/a@sha256:x"), "host:5000/a@sha256:x");
        assert_eq!(path_name("a b?c#d\r\n"), "a%20b%3Fc%23d%0D%0A");
    }
}
