//! What happens to an author's work where disks are full, streams are closed, folders belong to
//! others and paths are odd: nothing is lost, and what is wrong is one sentence. `.ci/run` runs it
//! with the other tests; what this machine does not permit (mounting, another user) is left out
//! and said.

mod disks;
mod exports;
mod streams;
mod trash;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Folders that every user may read: the tiny models, and the program.
fn bench() -> &'static (tempfile::TempDir, PathBuf) {
    static BENCH: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    BENCH.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        crate::common::write_tiny_models(&dir.path().join("models"));
        let program = dir.path().join("vokenboard");
        let built = env!("CARGO_BIN_EXE_vokenboard");
        if fs::hard_link(built, &program).is_err() {
            fs::copy(built, &program).unwrap();
        }
        (dir, program)
    })
}

/// The file of one of a story's pictures.
fn a_picture_of(story: &Path) -> PathBuf {
    let mut files = fs::read_dir(story.join("images")).unwrap();
    files.next().unwrap().unwrap().path()
}

/// The program on the tiny models, keeping its data in `home`.
fn vokenboard(home: &Path) -> Command {
    let (dir, program) = bench();
    let mut command = Command::new(program);
    command
        .env("VOKENBOARD_MODELS", dir.path().join("models"))
        .env("HOME", home)
        .env("VOKENBOARD_DATA", home.join("data"))
        .env_remove("DISPLAY")
        .env_remove("WAYLAND_DISPLAY");
    command
}

/// The same, through a shell that replaces `PROG` in `script` by the program.
fn shell(home: &Path, script: &str) -> Output {
    let (dir, program) = bench();
    let script = script.replace("PROG", program.to_str().unwrap());
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(script)
        .env("VOKENBOARD_MODELS", dir.path().join("models"))
        .env("HOME", home)
        .env("VOKENBOARD_DATA", home.join("data"))
        .current_dir(home);
    command.output().unwrap()
}

const TELL: [&str; 5] = ["--model", "tiny", "--steps", "1", "--seed"];

fn tell(home: &Path, out: impl AsRef<OsStr>, more: &[&str]) -> Output {
    let mut command = vokenboard(home);
    command.args(["tell", "A fox finds a lantern."]).args(TELL);
    command.args(["7", "--out"]).arg(out).args(more);
    command.output().unwrap()
}

/// A story of two panels.
fn told(home: &Path) -> PathBuf {
    let out = home.join("story");
    succeeds(&tell(home, &out, &["--panels", "2"]));
    out
}

fn export(home: &Path, more: &[&dyn AsRef<OsStr>]) -> Output {
    let mut command = vokenboard(home);
    command.arg("export");
    for argument in more {
        command.arg(argument);
    }
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn succeeds(output: &Output) {
    assert!(output.status.success(), "{}", said(output));
}

/// Ends with 1 and a last line that names `what`; never with a panic.
fn refuses(output: &Output, what: &str) {
    let said = said(output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(!said.contains("panicked"), "{said}");
    let last = said.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("vokenboard: ") && last.contains(what),
        "{said}"
    );
}

fn home() -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    home
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}
