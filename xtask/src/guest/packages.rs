//! Debian packages: tools that the machine may lack, and kernels, which come from releases the machine need not run.
//! Nothing is installed; see the kit's `debs` for how.

use std::path::{Path, PathBuf};
use std::process::Command;

use tare_kit::debs;

use super::Kernel;
use super::cache;
use crate::shell::{self, Done};

/// The release whose kernel is 6.1 and in whose backports is 6.12.
const RELEASE: &str = "bookworm";

/// A program of a Debian package, or the machine's own where apt has nothing to add.
pub(super) fn tool(package: &str, program: &str) -> Done<Tool> {
    let root = debs::unpacked(package, &[package]);
    let path = debs::find(&root, program).or_else(|| debs::find(Path::new("/"), program));
    let path = path.ok_or_else(|| format!("no {program} under {} nor on this machine", root.display()))?;
    Ok(Tool { root, path })
}

/// A program and the root that its libraries were unpacked to.
pub(super) struct Tool {
    pub(super) root: PathBuf,
    pub(super) path: PathBuf,
}

// === impl Tool ===

impl Tool {
    /// A command that finds the unpacked libraries before those of the machine.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command.env("LD_LIBRARY_PATH", self.libraries());
        command
    }

    /// Where it looks for libraries.
    pub(super) fn libraries(&self) -> String {
        let triple = triple();
        // Private libraries of others that are linked in: their own search path names the place they were not put.
        let dirs =
            [format!("usr/lib/{triple}"), format!("lib/{triple}"), format!("usr/lib/{triple}/pulseaudio")];
        dirs.map(|dir| self.root.join(dir).display().to_string()).join(":")
    }

    /// Its directory of plug-ins, if it came with one.
    pub(super) fn plugins(&self, name: &str) -> Option<PathBuf> {
        let dir = self.root.join("usr/lib").join(triple()).join(name);
        dir.is_dir().then_some(dir)
    }
}

/// Debian's name of this architecture.
fn triple() -> String {
    format!("{}-linux-gnu", std::env::consts::ARCH)
}

/// Unpacks the package of a kernel into `dir`.
pub(super) fn unpack_kernel(kernel: Kernel, dir: &Path) -> Done {
    let apt = Apt::new(&dir.join("apt"))?;
    let package = kernel_package(&apt.cache(&["show", "linux-image-amd64"])?, kernel.series())?;
    apt.download(&package, dir)?;
    let name = format!("{package}_");
    let archive = files(dir)?.into_iter().find(|p| file_name(p).starts_with(&name));
    let archive = archive.ok_or_else(|| format!("apt-get download left no {name}*.deb"))?;
    shell::quiet(Command::new("dpkg-deb").arg("-x").args([archive.as_path(), dir]))?;
    for done in [archive, dir.join("apt")] {
        let removed =
            if done.is_dir() { std::fs::remove_dir_all(&done) } else { std::fs::remove_file(&done) };
        removed.map_err(|e| format!("cannot remove {}: {e}", done.display()))?;
    }
    Ok(())
}

/// The exact name of the package for a series, from the versions of the package that always means the newest.
fn kernel_package(shown: &str, series: &str) -> Done<String> {
    let field = |paragraph: &str, name: &str| {
        paragraph.lines().find_map(|l| l.strip_prefix(name)).map(|value| value.trim().to_string())
    };
    let ours = |version: String| version.strip_prefix(series).is_some_and(|rest| rest.starts_with('.'));
    let paragraph = shown.split("\n\n").find(|p| field(p, "Version:").is_some_and(ours));
    let depends = paragraph.and_then(|p| field(p, "Depends:")).unwrap_or_default();
    let package = depends.split([' ', ',']).find(|word| word.starts_with("linux-image-"));
    package.map(String::from).ok_or_else(|| format!("Debian {RELEASE} offers no kernel {series}"))
}

/// apt on lists of its own: the release's and its backports', from the mirror that the machine uses.
struct Apt {
    settings: PathBuf,
}

// === impl Apt ===

impl Apt {
    fn new(dir: &Path) -> Done<Apt> {
        for made in ["parts", "state/lists/partial", "cache/archives/partial"] {
            cache::make_dir(&dir.join(made))?;
        }
        let mirror = mirror()?;
        let sources = format!("deb {mirror} {RELEASE} main\ndeb {mirror} {RELEASE}-backports main\n");
        cache::write(&dir.join("sources.list"), sources)?;
        let at = dir.display();
        let settings = format!(
            "Dir::State \"{at}/state\";\nDir::State::status \"/dev/null\";\nDir::Cache \"{at}/cache\";\n\
             Dir::Etc::sourcelist \"{at}/sources.list\";\nDir::Etc::sourceparts \"-\";\n\
             Dir::Etc::Parts \"{at}/parts\";\nAPT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\n\
             Acquire::Check-Valid-Until \"false\";\nAcquire::Retries \"2\";\nAcquire::http::Timeout \"30\";\n"
        );
        let apt = Apt { settings: dir.join("apt.conf") };
        cache::write(&apt.settings, settings)?;
        shell::quiet(apt.command("apt-get").args(["--quiet", "update"]))?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.settings);
        command
    }

    fn cache(&self, args: &[&str]) -> Done<String> {
        shell::output(self.command("apt-cache").args(args))
    }

    fn download(&self, package: &str, dir: &Path) -> Done {
        shell::quiet(self.command("apt-get").args(["--quiet", "download", package]).current_dir(dir))
    }
}

/// Where the machine gets Debian from.
fn mirror() -> Done<String> {
    let format = "$(REPO_URI) $(SUITE) $(CODENAME) $(COMPONENT) $(LABEL)";
    let mut asked = Command::new("apt-get");
    // The machine's own lists may be empty, and then its sources have no names.
    asked.args(["indextargets", "--format", format, "Created-By: Packages"]);
    let targets = shell::output(asked.env("APT_CONFIG", debs::apt_settings()))?;
    let target = targets.lines().find_map(debian_itself);
    target.map(String::from).ok_or_else(|| "no source of Debian itself is configured for apt".into())
}

/// The address, if the line is of a release proper: no updates, security fixes or packages of others.
fn debian_itself(line: &str) -> Option<&str> {
    let words: Vec<_> = line.split_whitespace().collect();
    match words[..] {
        [address, _suite, codename, "main", "Debian"] if !codename.contains('-') => Some(address),
        _ => None,
    }
}

/// The files in a directory.
pub(super) fn files(dir: &Path) -> Done<Vec<PathBuf>> {
    let entries = std::fs::read_dir(dir).map_err(|e| format!("cannot read {}: {e}", dir.display()))?;
    Ok(entries.flatten().map(|e| e.path()).collect())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "Package: linux-image-amd64\nVersion: 6.12.95-1~bpo12+1\n\
        Depends: linux-image-6.12.95+deb12-amd64 (= 6.12.95-1~bpo12+1)\n\n\
        Package: linux-image-amd64\nVersion: 6.1.176-1\nDepends: linux-image-6.1.0-50-amd64 (= 6.1.176-1)\n";

    #[test]
    fn the_kernel_of_a_series_is_named_exactly() {
        assert_eq!(kernel_package(SHOWN, "6.1").unwrap(), "linux-image-6.1.0-50-amd64");
        assert_eq!(kernel_package(SHOWN, "6.12").unwrap(), "linux-image-6.12.95+deb12-amd64");
        assert!(kernel_package(SHOWN, "6.6").unwrap_err().contains("6.6"));
    }

    #[test]
    fn the_mirror_is_that_of_the_release_itself() {
        assert_eq!(debian_itself("http://m/debian/ stable bookworm main Debian"), Some("http://m/debian/"));
        assert_eq!(debian_itself("http://m/debian/ stable-updates bookworm-updates main Debian"), None);
        assert_eq!(
            debian_itself("http://m/sec/ stable-security bookworm-security main Debian-Security"),
            None
        );
        assert_eq!(debian_itself("https://other/ nodistro nodistro main Other"), None);
    }
}
