//! Rows of the security file that need more than one request to attack: races, tables of values, whole walks. The table
//! of all rows and their tests is `docs/security-rows.md`.

use std::fs;
use std::path::PathBuf;

use tare_kit::Engine;

mod places;
mod races;
mod rights;

/// A directory to be bound at `/dev` with one file in it, and the bind.
fn dev_with(engine: &Engine, name: &str, content: &str) -> (PathBuf, String) {
    let dev = engine.dir().join("dev");
    fs::create_dir(&dev).unwrap();
    fs::write(dev.join(name), content).unwrap();
    let bind = format!("{}:/dev", dev.display());
    (dev, bind)
}
