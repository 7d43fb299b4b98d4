//! What containers are there, what they are doing, which processes they have.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::json;
use tare_model::sandbox::Running;
use tare_model::{Error, Result};

use super::{Context, print};
use crate::cli::{Format, List, Ps};
use crate::state::{Directory, State, Status};

pub(crate) fn state(context: &Context<'_>, id: &str) -> Result<u8> {
    let directory = Directory::of(context.root, id)?;
    let state = directory.read()?;
    let status = state.status(&directory)?;
    let object =
        serde_json::to_string_pretty(&described(&state, status, &owner(&directory))).unwrap_or_default();
    print(&format!("{object}\n"))
}

fn described(state: &State, status: Status, owner: &str) -> serde_json::Value {
    let tare_model::sandbox::Rootfs::Directory { path } = &state.spec.rootfs else { return json!({}) };
    let mut object = json!({
        "ociVersion": state.spec.oci.version(),
        "id": state.id,
        "pid": if status == Status::Stopped { 0 } else { state.pid },
        "status": status.as_str(),
        "bundle": state.bundle,
        "rootfs": path,
        "created": state.created,
        "owner": owner,
    });
    if let Some(annotations) = state.spec.oci.annotations().as_ref().filter(|map| !map.is_empty()) {
        object["annotations"] = json!(annotations);
    }
    object
}

pub(crate) fn list(context: &Context<'_>, args: &List) -> Result<u8> {
    let all = all(context.root)?;
    if args.quiet {
        return print(&all.iter().map(|(state, ..)| format!("{}\n", state.id)).collect::<String>());
    }
    if args.format == Format::Json {
        let objects: Vec<_> =
            all.iter().map(|(state, status, owner)| described(state, *status, owner)).collect();
        return print(&format!("{}\n", json!(objects)));
    }
    let mut rows = vec![["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned)];
    for (state, status, owner) in &all {
        let pid = if *status == Status::Stopped { 0 } else { state.pid };
        rows.push([
            state.id.clone(),
            pid.to_string(),
            status.as_str().to_owned(),
            state.bundle.display().to_string(),
            state.created.clone(),
            owner.clone(),
        ]);
    }
    print(&table(&rows))
}

/// Every container, by id. One that vanishes while we look is not there.
fn all(root: &Path) -> Result<Vec<(State, Status, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let Some(directory) = entry.file_name().to_str().and_then(|id| Directory::of(root, id).ok()) else {
            continue;
        };
        match directory.read() {
            Ok(state) => {
                let status = state.status(&directory)?;
                let owner = owner(&directory);
                found.push((state, status, owner));
            }
            Err(error) if error.kind() == tare_model::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_by(|(a, ..), (b, ..)| a.id.cmp(&b.id));
    Ok(found)
}

fn table(rows: &[[String; 6]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("   ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

pub(crate) fn ps(context: &Context<'_>, args: &Ps) -> Result<u8> {
    let pids = Directory::of(context.root, &args.id)?.read()?.open()?.processes()?;
    if args.format == Format::Json {
        return print(&format!("{}\n", json!(pids)));
    }
    let default = ["-ef".to_owned()];
    let options = if args.options.is_empty() { &default[..] } else { &args.options };
    let output = std::process::Command::new("ps").args(options).output();
    let output = output.map_err(|error| Error::system(format!("ps {}: {error}", options.join(" "))))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::invalid(format!("ps {}: {text}", options.join(" "))));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    print(&only(&text, &pids).ok_or_else(|| Error::invalid("the output of ps has no PID column"))?)
}

/// The lines of ps(1) for these processes, with the heading.
fn only(text: &str, pids: &[i32]) -> Option<String> {
    let heading = text.lines().next()?;
    let column = heading.split_whitespace().position(|word| word == "PID")?;
    let wanted = |line: &&str| {
        let pid = line.split_whitespace().nth(column).and_then(|word| word.parse::<i32>().ok());
        pid.is_some_and(|pid| pids.contains(&pid))
    };
    let lines = std::iter::once(heading).chain(text.lines().skip(1).filter(wanted));
    Some(lines.map(|line| format!("{line}\n")).collect())
}

/// Whose container it is: whoever owns its directory.
fn owner(directory: &Directory) -> String {
    match fs::metadata(directory.path()).map(|metadata| metadata.uid()) {
        Ok(0) | Err(_) => "root".to_owned(),
        Ok(uid) => {
            let known = fs::read_to_string("/etc/passwd").unwrap_or_default();
            let line = known.lines().find(|line| line.split(':').nth(2) == Some(&uid.to_string()));
            let name = line.and_then(|line| line.split(':').next());
            name.map_or_else(|| format!("#{uid}"), str::to_owned)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_of_processes_is_cut_to_those_of_the_container() {
        let text = "UID  PID PPID CMD\nroot   7    1 sh -c 8\nroot   8    7 ls\n";
        assert_eq!(only(text, &[7]).as_deref(), Some("UID  PID PPID CMD\nroot   7    1 sh -c 8\n"));
        assert_eq!(only("no heading\n", &[7]), None);
    }

    #[test]
    fn columns_of_a_table_line_up() {
        let row = |id: &str| [id, "1", "running", "/b", "now", "root"].map(str::to_owned);
        assert_eq!(
            table(&[row("a"), row("long")]),
            "a      1   running   /b   now   root\nlong   1   running   /b   now   root\n"
        );
    }
}
