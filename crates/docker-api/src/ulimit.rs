//! Names of resource limits of processes, as `--ulimit` and `HostConfig.Ulimits` write them.

/// getrlimit(2)'s names, lower case and without `RLIMIT_`.
pub const NAMES: &[&str] = &[
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

/// Whether there is a limit of this name.
pub fn is_known(name: &str) -> bool {
    NAMES.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_sorted_and_told_from_others() {
        assert!(NAMES.is_sorted() && NAMES.iter().all(|n| n.bytes().all(|b| b.is_ascii_lowercase())));
        assert!(is_known("nofile") && !is_known("NOFILE") && !is_known("RLIMIT_NOFILE") && !is_known(""));
    }
}
