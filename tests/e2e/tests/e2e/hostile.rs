//! Hostile archives: refused or contained, and nothing outside touched. Numbers are rows of the security file.

use std::fs;
use std::time::{Duration, Instant};

use tare_kit::engine::BUSYBOX;
use tare_kit::image::Entry;
use tare_kit::{Canary, Engine, Image, Layer};

use crate::ours;

/// Loads an image with one hostile layer; whether it was refused or not, the canary must be as it was and the engine
/// must be well. Gives the daemon's words if it refused.
fn attempt(make: impl FnOnce(&str, Layer) -> Layer) -> Option<String> {
    let engine = Engine::start();
    let canary = Canary::new(&engine.dir().join("canary"));
    let image = Image::busybox("hostile:1").layer(make(canary.str().trim_start_matches('/'), Layer::new()));
    let said = engine.load_archive(&image.docker_archive());
    let refused = said.status != 200 || said.text().contains("\"error\"");
    if !refused {
        let run = engine.tare(["run", "--rm", "--network", "none", "hostile:1", "true"]).run();
        assert!(run.code == 0 || run.code >= 125, "{run}");
    }
    canary.assert_untouched();
    assert_eq!(engine.sh(&[], "echo well"), "well");
    if ours() && refused {
        assert_eq!(engine.get("/images/hostile:1/json").status, 404, "a refused image is there");
    }
    refused.then(|| said.text())
}

#[test]
fn row_31_names_that_climb_are_refused() {
    let said = attempt(|canary, layer| layer.file(&format!("../../../../../../../../{canary}/planted"), "x"));
    assert!(said.is_some() || !ours(), "a name with `..` was accepted");
}

#[test]
fn row_31_absolute_names_are_refused() {
    let said = attempt(|canary, layer| layer.file(&format!("/{canary}/planted"), "x"));
    assert!(said.is_some() || !ours(), "an absolute name was accepted");
}

#[test]
fn row_31_a_file_through_a_symlink_stays_inside() {
    attempt(|canary, layer| layer.symlink("out", &format!("/{canary}")).file("out/planted", "x"));
}

#[test]
fn row_31_a_hard_link_out_is_refused() {
    attempt(|canary, layer| {
        layer
            .hardlink("stolen", &format!("../../../../../../../{canary}/secret"))
            .file("stolen", "overwritten")
    });
}

#[test]
fn row_36_a_symlink_in_the_roots_place_is_refused() {
    for name in [".", "/", "./", ""] {
        attempt(|canary, layer| layer.symlink(name, &format!("/{canary}")).file("planted", "x"));
    }
}

#[test]
fn row_37_modes_do_not_follow_links() {
    attempt(|canary, layer| {
        layer.symlink("link", &format!("/{canary}/secret")).hardlink("hard", "link").entry(&Entry {
            name: "hard",
            mode: 0o6777,
            owner: (4242, 4242),
            data: b"x",
            ..Entry::default()
        })
    });
}

#[test]
fn row_44_chains_of_links_stay_inside() {
    attempt(|canary, layer| {
        layer
            .symlink("a", "b")
            .symlink("b", &format!("../../../../../../../../{canary}"))
            .file("a/planted", "x")
            .hardlink("c", "a/secret")
            .file("c", "overwritten")
    });
    attempt(|canary, layer| {
        layer.symlink("s", &format!("/{canary}/secret")).hardlink("h", "s").file("h", "overwritten")
    });
    attempt(|canary, layer| layer.hardlink("h", &format!("/{canary}/secret")).file("h", "overwritten"));
}

#[test]
fn row_44_absolute_hard_links_of_image_builders_still_work() {
    let engine = Engine::start();
    engine.load(
        &Image::busybox("kaniko:1")
            .layer(Layer::new().file("app/file", "content").hardlink("app/link", "/app/file")),
    );
    let out = engine.tare(["run", "--rm", "--network", "none", "kaniko:1", "cat", "/app/link"]).ok();
    assert_eq!(out, "content");
}

#[test]
fn row_45_a_directory_entry_does_not_chmod_through_a_symlink() {
    attempt(|canary, layer| layer.symlink("d", &format!("/{canary}/sub")).dir("d", 0o777));
}

#[test]
fn row_46_sizes_that_disagree_smuggle_nothing() {
    let engine = Engine::start();
    // The header says nothing follows, the PAX record says 1,024 bytes do: what lies there is content, not an entry.
    let inner = Layer::new().file("smuggled", "x").finish();
    let hidden = &inner[..1024];
    let layer = Layer::new()
        .pax(&[("size", "1024")])
        .lying(&Entry { name: "carrier", data: hidden, ..Entry::default() }, 0)
        .file("after", "honest");
    let said = engine.load_archive(&Image::busybox("pax:1").layer(layer).docker_archive());
    if said.status == 200 && !said.text().contains("\"error\"") {
        let out = engine
            .tare([
                "run",
                "--rm",
                "--network",
                "none",
                "pax:1",
                "sh",
                "-c",
                "ls /smuggled; wc -c < /carrier; cat /after",
            ])
            .run();
        assert!(
            !out.out().contains("smuggled") && out.out().contains("1024") && out.out().contains("honest"),
            "{out}"
        );
    }
    // The reverse: the header claims content, the record says there is none.
    let layer = Layer::new()
        .pax(&[("size", "0")])
        .lying(&Entry { name: "carrier", ..Entry::default() }, 1024)
        .file("after", "honest");
    let said = engine.load_archive(&Image::busybox("pax:2").layer(layer).docker_archive());
    if said.status == 200 && !said.text().contains("\"error\"") {
        let out = engine.tare(["run", "--rm", "--network", "none", "pax:2", "cat", "/after"]).ok();
        assert_eq!(out, "honest");
    }
}

#[test]
fn row_47_directories_are_not_made_through_a_symlink() {
    attempt(|_, layer| {
        layer.symlink("up", "..").dir("up/exploit/foo/bar", 0o755).file("up/exploit/foo/bar/f", "x")
    });
    attempt(|canary, layer| layer.symlink("out", &format!("/{canary}")).dir("out/a/b/c", 0o777));
}

#[test]
fn whiteouts_remove_only_below_their_root() {
    attempt(|canary, layer| layer.file(&format!("../../../../../../../{canary}/.wh.secret"), ""));
    attempt(|canary, layer| layer.symlink("out", &format!("/{canary}")).file("out/.wh.secret", ""));
    attempt(|canary, layer| layer.symlink("out", &format!("/{canary}")).file("out/.wh..wh..opq", ""));
    attempt(|_, layer| layer.file(".wh..", "").file(".wh...", "").file(".wh.", ""));
}

#[test]
fn row_33_endless_padding_does_no_harm() {
    let mut engine = Engine::start();
    let mut archive = Image::busybox("padded:1").docker_archive();
    archive.resize(archive.len() + (256 << 20), 0);
    engine.load_archive(&archive);
    assert!(!ours() || engine.daemon_is_alive());
    assert_eq!(engine.sh(&[], "echo well"), "well");
}

#[test]
fn row_34_a_torn_layer_is_refused_and_the_next_one_loads() {
    let engine = Engine::start();
    let archive = Image::busybox("torn:1").layer(Layer::new().file("x", vec![7; 100_000])).docker_archive();
    for cut in [archive.len() / 3, archive.len() / 2, archive.len() - 4096] {
        engine.load_archive(&archive[..cut]);
        if ours() {
            assert_eq!(engine.get("/images/torn:1/json").status, 404, "cut at {cut}");
        }
    }
    engine.load(&Image::busybox("whole:1").layer(Layer::new().file("x", "1")));
    assert_eq!(engine.tare(["run", "--rm", "--network", "none", "whole:1", "cat", "/x"]).ok(), "1");
}

#[test]
fn row_40_a_huge_index_is_refused_in_time() {
    if !ours() {
        return;
    }
    let mut engine = Engine::start();
    let huge = vec![b' '; 64 << 20];
    let archive = Layer::new()
        .file("oci-layout", "{\"imageLayoutVersion\":\"1.0.0\"}")
        .file("index.json", huge)
        .finish();
    let begun = Instant::now();
    let said = engine.load_archive(&archive);
    assert!(said.status >= 400 || said.text().contains("error"), "{}", said.text());
    assert!(begun.elapsed() < Duration::from_secs(10) && engine.daemon_is_alive());
}

#[test]
fn row_41_digests_are_checked_before_they_are_paths() {
    let engine = Engine::start();
    let canary = Canary::new(&engine.dir().join("canary"));
    let long = "a".repeat(1 << 20);
    for digest in
        ["sha256:../../../../../../etc/passwd", "sha256", "", "sha256:", "sha512:aa", "SHA256:AB", &long]
    {
        let archive = Image::busybox("digest:1").oci_archive_with(|manifest| {
            manifest["config"]["digest"] = serde_json::json!(digest);
        });
        let said = engine.load_archive(&archive);
        if ours() {
            assert!(said.status != 200 || said.text().contains("error"), "{digest:.20}: {}", said.text());
        }
    }
    canary.assert_untouched();
    assert!(!ours() || engine.get("/images/digest:1/json").status == 404);
    assert_eq!(engine.tare(["run", "--rm", "--network", "none", BUSYBOX, "echo", "well"]).ok(), "well");
}

/// Row 39: nobody but root gets into the engine's state.
#[test]
fn row_39_state_is_closed_to_others() {
    if !ours() {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let engine = Engine::start();
    engine.background(&[], "sleep 1000");
    let mode = |dir: std::path::PathBuf| fs::metadata(&dir).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(engine.root()) & 0o007, 0, "the root is {:o}", mode(engine.root()));
    // The run directory may be passed through, to the socket, which has a mode of its own.
    assert_eq!(mode(engine.run_dir()) & 0o006, 0, "the run directory is {:o}", mode(engine.run_dir()));
    let inside = engine.run_dir().join("containers");
    assert_eq!(mode(inside.clone()) & 0o007, 0, "{} is {:o}", inside.display(), mode(inside.clone()));
}
