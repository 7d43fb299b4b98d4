//! What the kernel writes into a group's files, read without trust: words that are not understood are left out, figures
//! that should be there and are none are an error of whoever asked. Pure; the fuzzers run [`all`].

use std::collections::BTreeMap;

use serde::Serialize;

/// A device, an operation (as the kernel spells it; empty where there is none) and its figure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeviceFigure {
    /// Device number.
    pub major: u64,
    /// Device number.
    pub minor: u64,
    /// `Read`, `Write`, `Discard`, …
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    /// How much of it.
    pub value: u64,
}

/// How long tasks waited for something, in percent of the time, and in microseconds since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Wait {
    /// Over the last ten seconds.
    pub avg10: f64,
    /// Over the last minute.
    pub avg60: f64,
    /// Over the last five minutes.
    pub avg300: f64,
    /// Since the start.
    pub total: u64,
}

/// Pressure stall information.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Pressure {
    /// At least one task waited.
    pub some: Wait,
    /// All of them did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full: Option<Wait>,
}

/// The figure after a key in a file of `key figure` lines.
pub(super) fn keyed(content: &str, key: &str) -> Option<u64> {
    let line = |line: &str| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok();
    content.lines().find_map(line)
}

/// `key figure` lines.
pub(super) fn pairs(content: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let (key, figure) = line.split_once(' ')?;
        Some((key.to_owned(), figure.trim().parse().ok()?))
    };
    content.lines().filter_map(line).collect()
}

/// A file of figures with blanks between.
pub(super) fn figures(content: &str) -> Vec<u64> {
    content.split_whitespace().map_while(|figure| figure.parse().ok()).collect()
}

/// `0-2,7`: every number, in order, once. `None`: it is no such list, or one of more than the kernel has CPUs.
pub(super) fn list(content: &str) -> Option<Vec<u16>> {
    const MOST: u16 = 8192;
    let number = |text: &str| {
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|number| is_plain && *number < MOST)
    };
    let mut all = Vec::new();
    for part in content.trim().split(',').filter(|_| !content.trim().is_empty()) {
        let (low, high) = part.split_once('-').unwrap_or((part, part));
        let (low, high) = (number(low)?, number(high)?);
        if low > high {
            return None;
        }
        all.extend(low..=high);
        if all.len() > usize::from(MOST) {
            return None;
        }
    }
    all.sort_unstable();
    all.dedup();
    Some(all)
}

fn device(number: &str) -> Option<(u64, u64)> {
    let (major, minor) = number.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// v1's block I/O files: `8:0 Read 4096` and `8:0 4096` lines, and a `Total` at the end that belongs to no device.
pub(super) fn io_v1(content: &str) -> Vec<DeviceFigure> {
    let line = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (number, op, value) = match words[..] {
            [number, op, value] => (number, op, value),
            [number, value] => (number, "", value),
            _ => return None,
        };
        let (major, minor) = device(number)?;
        Some(DeviceFigure { major, minor, op: op.to_owned(), value: value.parse().ok()? })
    };
    content.lines().filter_map(line).collect()
}

/// v2's `io.stat`: `8:0 rbytes=4096 wbytes=0 …` lines; those words that `operation` knows.
pub(super) fn io_v2(content: &str, operation: fn(&str) -> Option<&'static str>) -> Vec<DeviceFigure> {
    let mut found = Vec::new();
    for line in content.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(device) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            if let (Some(op), Ok(value)) = (operation(key), value.parse()) {
                found.push(DeviceFigure { major, minor, op: op.to_owned(), value });
            }
        }
    }
    found
}

/// `rdma.current` and `rdma.max`: `mlx4_0 hca_handle=2 hca_object=max` lines; without a limit there is no figure.
pub(super) fn rdma(content: &str) -> BTreeMap<String, BTreeMap<String, u64>> {
    let line = |line: &str| {
        let (device, words) = line.split_once(' ')?;
        let figure = |word: &str| {
            let (key, value) = word.split_once('=')?;
            Some((key.to_owned(), value.parse().ok()?))
        };
        Some((device.to_owned(), words.split_whitespace().filter_map(figure).collect()))
    };
    content.lines().filter_map(line).collect()
}

/// A `*.pressure` file: `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` and the same with `full`.
pub(super) fn pressure(content: &str) -> Option<Pressure> {
    let line = |name: &str| {
        let words = content.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        let word =
            |key: &str| words.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        let share = |key: &str| word(key)?.parse::<f64>().ok().filter(|share| share.is_finite());
        Some(Wait {
            avg10: share("avg10")?,
            avg60: share("avg60")?,
            avg300: share("avg300")?,
            total: word("total")?.parse().ok()?,
        })
    };
    Some(Pressure { some: line("some")?, full: line("full") })
}

/// Runs every parser; for fuzzers.
pub fn all(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let known = |key: &str| matches!(key, "rbytes").then_some("Read");
    let _ = (keyed(&text, "frozen"), pairs(&text), figures(&text), list(&text), pressure(&text));
    let _ = (io_v1(&text), io_v2(&text, known), rdma(&text));
    let _ = super::devices::steps(&text, &[("devices.deny", "a".to_owned())]);
    super::layout::fuzz(&text);
    let _ = super::GroupPath::parse(&*text);
    let _ = super::systemd::ScopeName::parse(&text);
    super::systemd::fuzz(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(list: &[u16]) -> String {
        let mut text = String::new();
        for chunk in list.chunk_by(|one, next| one + 1 == *next) {
            let comma = if text.is_empty() { "" } else { "," };
            match chunk {
                [one] => text += &format!("{comma}{one}"),
                [first, .., last] => text += &format!("{comma}{first}-{last}"),
                [] => {}
            }
        }
        text
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_bytes_upset_a_parser(bytes: Vec<u8>) {
            all(&bytes);
        }

        #[test]
        fn nearly_right_words_upset_no_parser(text in r"([a-z_.]{0,6}[ =:,-]?[0-9max]{0,21}[ \n]?){0,20}") {
            all(text.as_bytes());
        }

        #[test]
        fn a_list_that_is_written_is_read(numbers in prop::collection::btree_set(0u16..8192, 0..60)) {
            let numbers: Vec<u16> = numbers.into_iter().collect();
            prop_assert_eq!(list(&written(&numbers)), Some(numbers));
        }

        #[test]
        fn figures_of_a_device_are_read_in_both_forms(
            rows in prop::collection::vec((0u64..300, 0u64..1_000_000, any::<u64>(), any::<u64>()), 0..8)
        ) {
            let (mut v1, mut v2, mut wanted) = (String::new(), String::new(), Vec::new());
            for (major, minor, read, write) in rows {
                v1 += &format!("{major}:{minor} Read {read}\n{major}:{minor} Write {write}\n");
                v2 += &format!("{major}:{minor} rbytes={read} wbytes={write} rios=1 new=x\n");
                for (op, value) in [("Read", read), ("Write", write)] {
                    wanted.push(DeviceFigure { major, minor, op: op.to_owned(), value });
                }
            }
            let operation = |key: &str| match key { "rbytes" => Some("Read"), "wbytes" => Some("Write"), _ => None };
            prop_assert_eq!(io_v1(&format!("{v1}Total 17\n")), wanted.clone());
            prop_assert_eq!(io_v2(&v2, operation), wanted);
        }

        #[test]
        fn pairs_that_are_written_are_read(all in prop::collection::btree_map("[a-z_]{1,9}", any::<u64>(), 0..20)) {
            let text: String = all.iter().map(|(key, figure)| format!("{key} {figure}\n")).collect();
            for (key, figure) in &all {
                prop_assert_eq!(keyed(&text, key), Some(*figure));
            }
            prop_assert_eq!(pairs(&text), all);
        }
    }

    #[test]
    fn what_is_no_list_is_none() {
        for text in ["x", "3-1", "0-", ",", "1,,2", "99999", "0-8192", "+1", "1 2"] {
            assert_eq!(list(text), None, "{text}");
        }
        assert_eq!(list("\n"), Some(Vec::new()));
    }

    #[test]
    fn pressure_has_two_lines_or_one() {
        let some = "some avg10=0.12 avg60=1.00 avg300=0.00 total=357\n";
        let read = pressure(some).unwrap();
        assert_eq!((read.some.avg10, read.some.total, read.full), (0.12, 357, None));
        let both = format!("{some}full avg10=0.00 avg60=0.00 avg300=0.50 total=7\n");
        assert_eq!(pressure(&both).unwrap().full.unwrap().avg300, 0.5);
        assert_eq!(pressure("some avg10=nan avg60=0 avg300=0 total=0"), None);
        assert_eq!(pressure(""), None);
    }

    #[test]
    fn an_rdma_device_has_figures_only_where_it_is_limited() {
        let read = rdma("mlx4_0 hca_handle=2 hca_object=max\n");
        assert_eq!(read["mlx4_0"], BTreeMap::from([("hca_handle".to_owned(), 2)]));
    }
}
