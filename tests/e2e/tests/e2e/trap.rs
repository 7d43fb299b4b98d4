//! Images with links that lead out of them, and their twins, which have what belongs there: a trap that nobody springs proves
//! something only if it was set, and if the twin runs.

use std::fs;
use std::path::{Path, PathBuf};

use tare_kit::{Canary, Cmd, Engine, Image, Layer, Output};

use crate::ours;

/// What belongs in the place of a link.
#[derive(Clone, Copy)]
pub(crate) enum Real {
    Dir,
    File,
}

/// An engine with such an image and its twin, and the canary that the links lead to.
pub(crate) struct Trap {
    pub(crate) engine: Engine,
    pub(crate) canary: Canary,
    name: String,
}

/// Both user namespaces, the open one first: one of the container's own is a wall that would hide a hole in others.
pub(crate) const USER_NAMESPACES: [&str; 2] = ["host", ""];

// === impl Trap ===

impl Trap {
    /// `links`: the place in the image, what belongs there, where in the canary it leads (empty: to the canary itself).
    pub(crate) fn new(name: &str, links: &[(&str, Real, &str)]) -> Trap {
        let engine = Engine::start();
        let canary = Canary::new(&engine.dir().join("canary"));
        let trap = Trap { engine, canary, name: name.to_owned() };
        trap.set(links);
        trap
    }

    /// Loads the image and its twin once more, with these links.
    pub(crate) fn set(&self, links: &[(&str, Real, &str)]) {
        let (mut layer, mut twin) = (Layer::new(), Layer::new());
        // What the image below has in the place gives way.
        for (name, ..) in links.iter().filter(|(name, ..)| *name == "etc") {
            let whiteout = format!(".wh.{name}");
            (layer, twin) = (layer.file(&whiteout, ""), twin.file(&whiteout, ""));
        }
        for (place, real, target) in links {
            layer = layer.symlink(place, &self.target(target));
            twin = match real {
                Real::Dir => twin.dir(place, 0o755),
                Real::File => twin.file(place, ""),
            };
        }
        self.engine.load(&Image::busybox(&self.name).layer(layer));
        self.engine.load(&Image::busybox(&self.twin()).layer(twin));
        for (place, _, target) in links.iter().filter(|_| ours()) {
            assert!(has_link(&self.engine.root(), place, &self.target(target)), "{place} was not unpacked");
        }
    }

    /// `run --rm` of the image.
    pub(crate) fn run(&self, flags: &[&str], script: &str) -> Output {
        run(&self.engine, flags, &self.name, script).run()
    }

    /// The same of the twin, which must run: its output.
    #[track_caller]
    pub(crate) fn run_twin(&self, flags: &[&str], script: &str) -> String {
        run(&self.engine, flags, &self.twin(), script).ok()
    }

    /// Name of the image.
    pub(crate) fn image(&self) -> &str {
        &self.name
    }

    /// Name of its twin.
    pub(crate) fn twin(&self) -> String {
        format!("twin-{}", self.name)
    }

    fn target(&self, below: &str) -> String {
        if below.is_empty() { self.canary.str().to_owned() } else { format!("{}/{below}", self.canary.str()) }
    }
}

/// `run --rm --network none` of any image, not yet run.
pub(crate) fn run(engine: &Engine, flags: &[&str], image: &str, script: &str) -> Cmd {
    engine.tare([&["run", "--rm", "--network", "none"], flags, &[image, "sh", "-c", script]].concat())
}

/// Whether somewhere below `dir` there is a link to `target` in this place of an image.
fn has_link(dir: &Path, place: &str, target: &str) -> bool {
    let below = |dir: &Path| -> Vec<PathBuf> {
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
    };
    let mut open = below(dir);
    while let Some(path) = open.pop() {
        match fs::read_link(&path) {
            Ok(there) if path.ends_with(place) && there == Path::new(target) => return true,
            Ok(_) => {}
            Err(_) => open.extend(below(&path)),
        }
    }
    false
}
