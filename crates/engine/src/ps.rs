//! Processes as `ps` shows them, read from /proc by the engine itself: no program of an image is run for it.

use std::collections::HashMap;
use std::fs;

use tare_model::{Error, Result};

use crate::api::system::Top;
use crate::{clock, host};

/// Clock ticks of /proc per second; the kernel's interface fixes it.
const TICKS: u64 = 100;

/// Which columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `ps -ef`.
    Full,
    /// `ps aux`.
    Bsd,
}

/// One process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Process {
    pid: i32,
    ppid: i32,
    uid: u32,
    state: char,
    tty: i32,
    /// CPU time, ticks.
    cpu: u64,
    /// Start after boot, ticks.
    start: u64,
    /// Bytes.
    virtual_size: u64,
    /// Pages of 4 KiB.
    resident: u64,
    command: String,
}

/// What a picture of processes depends on besides them.
struct Scene {
    /// Seconds since the epoch.
    now: u64,
    /// Seconds since the epoch.
    boot: u64,
    memory: u64,
    users: HashMap<u32, String>,
}

// === impl Form ===

impl Form {
    /// Reads the arguments of `ps`: the common forms of both columns and nothing else.
    ///
    /// # Errors
    /// `Unsupported`, naming them.
    pub(crate) fn parse(args: &str) -> Result<Self> {
        match args.split_whitespace().collect::<Vec<_>>().as_slice() {
            [] | ["-ef" | "-fe" | "ef" | "-e" | "-f"] | ["-e", "-f"] => Ok(Self::Full),
            ["aux" | "-aux" | "au" | "ax" | "auxw" | "auxww"] => Ok(Self::Bsd),
            _ => Err(Error::unsupported(format!(
                "top: ps arguments {args:?} are not supported: the engine reads /proc itself and knows -ef and aux"
            ))),
        }
    }
}

/// The picture of these processes; those that have ended meanwhile are left out.
pub(crate) fn top(pids: &[i32], form: Form) -> Top {
    let scene = Scene {
        now: clock::now() / 1_000_000_000,
        boot: boot_time(&fs::read_to_string("/proc/stat").unwrap_or_default()),
        memory: host::machine().memory,
        users: users(&fs::read_to_string("/etc/passwd").unwrap_or_default()),
    };
    let mut processes: Vec<Process> = pids.iter().filter_map(|pid| read(*pid)).collect();
    processes.sort_by_key(|p| (p.start, p.pid));
    picture(&processes, form, &scene)
}

fn picture(processes: &[Process], form: Form, scene: &Scene) -> Top {
    let titles: &[&str] = match form {
        Form::Full => &["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"],
        Form::Bsd => {
            &["USER", "PID", "%CPU", "%MEM", "VSZ", "RSS", "TTY", "STAT", "START", "TIME", "COMMAND"]
        }
    };
    let row = |p: &Process| match form {
        Form::Full => full(p, scene),
        Form::Bsd => bsd(p, scene),
    };
    Top {
        titles: titles.iter().map(|t| (*t).to_owned()).collect(),
        rows: processes.iter().map(row).collect(),
    }
}

fn full(p: &Process, scene: &Scene) -> Vec<String> {
    let percent = usage(p, scene) / 10;
    vec![
        user(p, scene),
        p.pid.to_string(),
        p.ppid.to_string(),
        percent.to_string(),
        started(p, scene),
        tty(p.tty),
        cpu_time(p.cpu, true),
        p.command.clone(),
    ]
}

fn bsd(p: &Process, scene: &Scene) -> Vec<String> {
    let cpu = usage(p, scene);
    let memory = (p.resident * 4096 * 1000).checked_div(scene.memory).unwrap_or(0);
    vec![
        user(p, scene),
        p.pid.to_string(),
        format!("{}.{}", cpu / 10, cpu % 10),
        format!("{}.{}", memory / 10, memory % 10),
        (p.virtual_size / 1024).to_string(),
        (p.resident * 4).to_string(),
        tty(p.tty),
        p.state.to_string(),
        started(p, scene),
        cpu_time(p.cpu, false),
        p.command.clone(),
    ]
}

/// CPU use over its life, in thousandths.
fn usage(p: &Process, scene: &Scene) -> u64 {
    let life = scene.now.saturating_sub(scene.boot + p.start / TICKS).max(1);
    p.cpu * 1000 / TICKS / life
}

fn user(p: &Process, scene: &Scene) -> String {
    scene.users.get(&p.uid).cloned().unwrap_or_else(|| p.uid.to_string())
}

/// The time of day in UTC, or the year for what is older than a day, as `ps` does.
fn started(p: &Process, scene: &Scene) -> String {
    let at = scene.boot + p.start / TICKS;
    let Ok(time) = i64::try_from(at)
        .map_err(drop)
        .and_then(|t| time::OffsetDateTime::from_unix_timestamp(t).map_err(drop))
    else {
        return "?".into();
    };
    if scene.now.saturating_sub(at) < 86_400 {
        return format!("{:02}:{:02}", time.hour(), time.minute());
    }
    let month = time.month().to_string();
    format!("{}{:02}", &month[..3], time.day())
}

fn cpu_time(ticks: u64, hours: bool) -> String {
    let seconds = ticks / TICKS;
    if hours {
        return format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    }
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// The terminal by its number: pseudo terminals have majors 136 to 143.
fn tty(number: i32) -> String {
    let (major, minor) = ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xfff00));
    match major {
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        4 => format!("tty{minor}"),
        _ => "?".into(),
    }
}

fn read(pid: i32) -> Option<Process> {
    let file = |name: &str| fs::read(format!("/proc/{pid}/{name}")).ok();
    let stat = String::from_utf8_lossy(&file("stat")?).into_owned();
    let mut process = parse_stat(&stat)?;
    let status = String::from_utf8_lossy(&file("status")?).into_owned();
    process.uid =
        status.lines().find_map(|l| l.strip_prefix("Uid:")?.split_whitespace().nth(1)?.parse().ok())?;
    let command = command_line(&file("cmdline")?);
    if !command.is_empty() {
        process.command = command;
    }
    Some(process)
}

/// The fields of /proc/PID/stat; the name in parentheses may itself have parentheses and spaces.
fn parse_stat(stat: &str) -> Option<Process> {
    let (head, rest) = stat.rsplit_once(')')?;
    let (pid, name) = head.split_once('(')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |n: usize| fields.get(n).and_then(|f| f.parse::<u64>().ok());
    Some(Process {
        pid: pid.trim().parse().ok()?,
        state: fields.first()?.chars().next()?,
        ppid: fields.get(1)?.parse().ok()?,
        tty: fields.get(4)?.parse().ok()?,
        cpu: number(11)? + number(12)?,
        start: number(19)?,
        virtual_size: number(20)?,
        resident: number(21)?,
        uid: 0,
        command: format!("[{}]", printable(name)),
    })
}

fn command_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    printable(text.trim_end_matches('\0').replace('\0', " ").as_str())
}

/// A process may call itself anything; a terminal that shows it must not obey it.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn boot_time(stat: &str) -> u64 {
    stat.lines().find_map(|l| l.strip_prefix("btime ")?.trim().parse().ok()).unwrap_or(0)
}

fn users(passwd: &str) -> HashMap<u32, String> {
    let entry = |line: &str| {
        let mut fields = line.split(':');
        let (name, uid) = (fields.next()?, fields.nth(1)?);
        Some((uid.parse().ok()?, name.to_owned()))
    };
    passwd.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn common_arguments_are_known_and_others_refused_by_name() {
        assert_eq!(Form::parse(""), Ok(Form::Full));
        assert_eq!(Form::parse("-ef"), Ok(Form::Full));
        assert_eq!(Form::parse("aux"), Ok(Form::Bsd));
        let e = Form::parse("-o pid").expect_err("not supported");
        assert!(e.message().contains("\"-o pid\""), "{e}");
    }

    #[test]
    fn this_process_is_shown_with_its_command() {
        let me = i32::try_from(std::process::id()).expect("a pid");
        let top = top(&[me, i32::MAX], Form::Full);
        assert_eq!(top.titles.len(), 8);
        assert_eq!(top.rows.len(), 1, "one that is not there is left out");
        assert_eq!(top.rows[0][1], me.to_string());
        assert!(top.rows[0][7].contains("tare_engine"), "{:?}", top.rows[0]);
    }

    #[test]
    fn a_hostile_name_confuses_nobody() {
        let rest = "S 1 7 7 34817 7 0 0 0 0 0 250 50 0 0 20 0 1 0 100 4096000 25 0";
        let p = parse_stat(&format!("7 (a) S (b\x1b[2J) {rest}")).expect("parses");
        assert_eq!((p.pid, p.ppid, p.cpu, p.start, p.resident), (7, 1, 300, 100, 25));
        assert_eq!(p.command, "[a) S (b?[2J]");
        assert_eq!(tty(p.tty), "pts/1");
    }

    #[test]
    fn columns_are_those_of_ps() {
        let p = Process {
            pid: 7,
            ppid: 1,
            state: 'S',
            cpu: 6000,
            command: "x".into(),
            resident: 256,
            ..Default::default()
        };
        let scene =
            Scene { now: 1_000, boot: 400, memory: 1 << 30, users: HashMap::from([(0, "root".into())]) };
        assert_eq!(full(&p, &scene), ["root", "7", "1", "10", "00:06", "?", "00:01:00", "x"]);
        assert_eq!(bsd(&p, &scene)[..6], ["root", "7", "10.0", "0.0", "0", "1024"]);
    }

    proptest! {
        #[test]
        fn any_stat_is_read_without_panic(text in "[0-9]{0,3} ?\\(.{0,20}\\)?( -?[0-9]{1,20}){0,25}") {
            let _ = parse_stat(&text);
        }
    }
}
