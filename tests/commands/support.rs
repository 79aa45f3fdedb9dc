//! What the tests of commands have in common.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use assert_cmd::Command;

/// A models folder with `tiny` (a caption pipeline) and `tiny-writer` (its language model), made
/// once per test program.
pub fn tiny_models() -> PathBuf {
    static MODELS: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = MODELS.get_or_init(|| {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        crate::common::write_tiny_models(dir.path());
        dir
    });
    made.path().to_path_buf()
}

/// The program on the models in a folder, without a screen and with a data folder of its own.
pub fn vokenboard(models: &Path) -> Command {
    let mut command = Command::cargo_bin("vokenboard").unwrap();
    command
        .env(
            "VOKENBOARD_DATA",
            concat!(env!("CARGO_TARGET_TMPDIR"), "/data"),
        )
        .env("VOKENBOARD_MODELS", models)
        .env_remove("DISPLAY")
        .env_remove("WAYLAND_DISPLAY");
    command
}

/// Copies a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &to),
            false => drop(fs::copy(&path, &to).unwrap()),
        }
    }
}
