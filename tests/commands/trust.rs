//! What happens to an author's work where disks are full, streams are closed, folders belong to
//! others and paths are odd: nothing is lost, and what is wrong is one sentence. `.ci/run` runs it
//! with the other tests; what this machine does not permit (mounting, another user) is left out
//! and said.

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

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}

/// A file system in memory of so many kilobytes; unmounted when it is dropped.
struct Small(PathBuf);

impl Small {
    fn mount(at: &Path, kilobytes: u32) -> Option<Small> {
        fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={kilobytes}k"))
            .arg("none")
            .arg(at)
            .output();
        let done = mounted.is_ok_and(|mounted| mounted.status.success());
        if !done {
            eprintln!("skipped: this machine lets nobody mount a file system here");
        }
        done.then(|| Small(at.to_path_buf()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn streams_that_are_full_closed_or_left_do_no_harm() {
    let home = home();
    for script in [
        "PROG models >/dev/full",
        "PROG help tell >/dev/full",
        "PROG models | head -n 1",
        "PROG models --verify | true",
        "PROG models >&-",
        "PROG models 2>&-",
        "PROG models <&- >&- 2>&-",
        "PROG export none 2>/dev/full",
    ] {
        let ended = shell(home.path(), script);
        assert!(
            !said(&ended).contains("panicked"),
            "{script}: {}",
            said(&ended)
        );
        assert_ne!(ended.status.code(), Some(101), "{script}");
    }
    let full = shell(home.path(), "PROG models >/dev/full");
    refuses(&full, "standard output");
    // A story is told to its end whether or not anybody hears of it.
    for (at, streams) in [">/dev/full", "2>/dev/full", ">&- 2>&-", "--json >/dev/full"]
        .into_iter()
        .enumerate()
    {
        let script =
            format!("PROG tell 'A fox.' --model tiny --steps 1 --panels 2 --out s{at} {streams}");
        succeeds(&shell(home.path(), &script));
        assert!(
            home.path().join(format!("s{at}/story.md")).is_file(),
            "{script}"
        );
    }
}

#[test]
fn texts_may_begin_with_dashes() {
    let home = home();
    for (at, text) in [
        "-",
        "- Who is there?",
        "— a dash",
        "-- and so it began",
        "-5 degrees outside",
    ]
    .into_iter()
    .enumerate()
    {
        let out = home.path().join(format!("s{at}"));
        let mut command = vokenboard(home.path());
        command
            .args(["tell", text])
            .args(TELL)
            .args(["1", "--panels", "1", "--out"])
            .arg(&out);
        let ended = command.output().unwrap();
        assert!(ended.status.success(), "{text}: {}", said(&ended));
        let page = fs::read_to_string(out.join("story.json")).unwrap();
        assert!(page.contains(text), "{text}");
    }
    let mut command = vokenboard(home.path());
    let wrong = command
        .args(["tell", "--pannels", "--out", "x"])
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(2), "{}", said(&wrong));
    assert!(said(&wrong).contains("--pannels"));
}

#[test]
fn paths_that_are_no_text_work_everywhere() {
    let home = home();
    let out = home.path().join(OsStr::from_bytes(b"st\xffory"));
    succeeds(&tell(home.path(), &out, &["--panels", "1", "--json"]));
    succeeds(&tell(home.path(), &out, &["--panels", "1", "--continue"]));
    let mut command = vokenboard(home.path());
    command
        .arg("regenerate")
        .arg(&out)
        .args(["--panel", "1", "--model", "tiny", "--json"]);
    succeeds(&command.output().unwrap());
    let sheet = home.path().join(OsStr::from_bytes(b"sh\xfeet"));
    let pages = home.path().join(OsStr::from_bytes(b"pag\xfees"));
    succeeds(&export(
        home.path(),
        &[&out, &"--png", &sheet, &"--markdown", &pages],
    ));
    assert!(
        home.path()
            .join(OsStr::from_bytes(b"sh\xfeet.png"))
            .is_file()
    );
    assert!(pages.join("story.md").is_file());
}

#[test]
fn exports_harm_neither_the_story_nor_other_files() {
    let home = home();
    let story = told(home.path());
    let json = fs::read(story.join("story.json")).unwrap();
    let picture = fs::read_dir(story.join("images"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let pixels = fs::read(&picture).unwrap();
    let at = |name: &str| home.path().join(name);
    symlink(story.join("story.json"), at("link.png")).unwrap();
    symlink(story.join("images"), at("pictures")).unwrap();
    fs::hard_link(&picture, at("hard.png")).unwrap();
    let name = picture.file_name().unwrap();
    for place in [
        story.join("story.json"),
        picture.clone(),
        story.join("images/../images").join(name),
        story.join("images/new.png"),
        at("link.png"),
        at("pictures").join(name),
        story.join("STORY.JSON"),
    ] {
        let ended = export(home.path(), &[&story, &"--png", &place, &"--force"]);
        // A name without its ending gets it, and is then another.
        if place.extension().is_some_and(|ending| ending == "png") {
            refuses(&ended, "a part of the story");
        }
        assert_eq!(fs::read(story.join("story.json")).unwrap(), json);
        assert_eq!(fs::read(&picture).unwrap(), pixels);
    }
    refuses(
        &export(home.path(), &[&story, &"--markdown", &story.join("images")]),
        "a part of",
    );
    // What a hard link shares is not written into.
    succeeds(&export(
        home.path(),
        &[&story, &"--png", &at("hard.png"), &"--force"],
    ));
    assert_eq!(fs::read(&picture).unwrap(), pixels);
    // Nothing that exists is replaced unasked, whichever way it is named.
    fs::write(at("board.png"), "mine").unwrap();
    for name in ["board.png", "board"] {
        refuses(
            &export(home.path(), &[&story, &"--png", &at(name)]),
            "--force",
        );
        assert_eq!(fs::read(at("board.png")).unwrap(), b"mine");
    }
    succeeds(&export(
        home.path(),
        &[&story, &"--png", &at("board"), &"--force"],
    ));
    fs::create_dir(at("pages")).unwrap();
    fs::write(at("pages/story.md"), "my diary").unwrap();
    refuses(
        &export(home.path(), &[&story, &"--markdown", &at("pages")]),
        "--force",
    );
    assert_eq!(fs::read(at("pages/story.md")).unwrap(), b"my diary");
    // The story's own page is written anew until somebody changes it; then it stays.
    succeeds(&export(home.path(), &[&story]));
    fs::write(story.join("story.md"), "changed").unwrap();
    refuses(&export(home.path(), &[&story]), "story.md");
    let ended = tell(home.path(), &story, &["--continue", "--panels", "1"]);
    succeeds(&ended);
    assert!(said(&ended).contains("story.md was written or changed by somebody else"));
    assert_eq!(fs::read(story.join("story.md")).unwrap(), b"changed");
    symlink("/dev/null", at("device.png")).unwrap();
    let device = at("device.png");
    refuses(
        &export(home.path(), &[&story, &"--png", &device, &"--force"]),
        "not a file",
    );
}

#[test]
fn no_command_writes_over_a_story_or_what_is_there() {
    let home = home();
    let story = told(home.path());
    let json = fs::read(story.join("story.json")).unwrap();
    let mine = home.path().join("mine.json");
    fs::write(&mine, "mine").unwrap();
    let run = |arguments: &[&str], file: &Path, force: bool| {
        let mut command = vokenboard(home.path());
        command.args(arguments).arg(file);
        if force {
            command.arg("--force");
        }
        command.output().unwrap()
    };
    let ballots = home.path().join("votes.json");
    fs::write(&ballots, "[]").unwrap();
    let vote = [
        "eval",
        "vote",
        "--tally",
        ballots.to_str().unwrap(),
        "--json",
    ];
    let stories = ["eval", "vote", "--a", "a", "--b", "b", "--out"];
    let commands: [&[&str]; 9] = [
        &["bench", "ops", "no such operation", "--json"],
        &["bench", "llm", "--model", "none", "--json"],
        &["bench", "tell", "--model", "none", "--json"],
        &["bench", "ui", "--json"],
        &["eval", "faithfulness", "--model", "none", "--json"],
        &["eval", "faithfulness", "--model", "none", "--grid"],
        &vote,
        &stories,
        &["storyworld", "sheet", "--seed", "1", "--out"],
    ];
    for command in commands {
        for force in [false, true] {
            for own in ["story.json", "images/x.json", "trash/new/x.json"] {
                refuses(
                    &run(command, &story.join(own), force),
                    "a part of the story",
                );
            }
        }
        refuses(&run(command, &mine, false), "--force");
        refuses(&run(command, &mine.join("below"), false), "");
        refuses(&run(command, home.path(), true), "not a file");
    }
    assert_eq!(fs::read(&mine).unwrap(), b"mine");
    assert_eq!(fs::read(story.join("story.json")).unwrap(), json);
    succeeds(&run(commands[0], &mine, true));
    assert_ne!(fs::read(&mine).unwrap(), b"mine");
    // Folders that are written: a run of training, stories, another story.
    let config = home.path().join("run.toml");
    fs::write(&config, "").unwrap();
    let train = [
        "train",
        "see",
        "--config",
        config.to_str().unwrap(),
        "--out",
    ];
    let keep = ["eval", "stories", "--models", "none", "--keep"];
    let tell = ["tell", "A fox.", "--model", "none", "--out"];
    for command in [&train[..], &keep, &tell] {
        let inside = story.join("images/new");
        let ended = run(command, &inside, false);
        assert!(!inside.exists());
        refuses(&ended, "story");
        assert!(!said(&ended).contains("none"), "{}", said(&ended));
    }
    refuses(&run(&train, &story, false), "holds other files");
    refuses(&run(&train, home.path(), false), "holds other files");
}

#[test]
fn a_story_that_is_protected_stays_as_it_is() {
    let home = home();
    let story = told(home.path());
    let file = story.join("story.json");
    let before = fs::read(&file).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).unwrap();
    let go_on = tell(home.path(), &story, &["--continue", "--model", "none"]);
    refuses(&go_on, "cannot be written");
    assert_eq!(fs::read(&file).unwrap(), before);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    succeeds(&tell(home.path(), &story, &["--continue", "--panels", "1"]));
}

#[test]
fn pipes_and_devices_in_the_place_of_files_are_refused_at_once() {
    let home = home();
    let pipe = |name: &str| {
        let path = home.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let made = Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
    };
    for name in [
        "pipe.toml",
        "pipe.json",
        "pipe.gguf",
        "pipe.safetensors",
        "llama/config.json",
        "picture/model_index.json",
        "own/manifest.json",
        "data/train.tsv",
        "story/story.json",
    ] {
        pipe(name);
    }
    symlink("/dev/zero", home.path().join("zero.gguf")).unwrap();
    symlink("/dev/zero", home.path().join("zero.json")).unwrap();
    let config = "model = \"none\"\nseed = 1\nsteps = 1\ncheckpoint_every = 1\nsample_every = 1\n";
    fs::write(home.path().join("run.toml"), config).unwrap();
    for command in [
        "train see --config pipe.toml --out run",
        "eval vote --tally pipe.json",
        "eval vote --tally zero.json",
        "eval stories --config pipe.toml",
        "models identify pipe.gguf",
        "models identify pipe.safetensors",
        "models identify zero.gguf",
        "models identify llama",
        "models identify picture",
        "models identify own",
        "tell 'A fox.' --model own --out new",
        "tell 'A fox.' --writer pipe.gguf --out new",
        "export story --png sheet.png",
        "tell --continue --out story",
    ] {
        let ended = shell(home.path(), &format!("timeout 20 PROG {command}"));
        let said = said(&ended);
        assert_eq!(ended.status.code(), Some(1), "{command}: {said}");
        let last = said.lines().last().unwrap_or_default();
        assert!(last.starts_with("vokenboard: "), "{command}: {said}");
    }
}

#[test]
fn a_damaged_picture_is_left_out_and_named() {
    let home = home();
    let story = told(home.path());
    let picture = fs::read_dir(story.join("images"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    fs::write(&picture, "").unwrap();
    let ended = export(
        home.path(),
        &[
            &story,
            &"--png",
            &home.path().join("sheet"),
            &"--markdown",
            &home.path().join("md"),
        ],
    );
    succeeds(&ended);
    let name = picture.file_name().unwrap().to_str().unwrap();
    assert!(said(&ended).contains(name), "{}", said(&ended));
    let page = fs::read_to_string(home.path().join("md/story.md")).unwrap();
    assert!(page.contains("A fox finds a lantern.") && !page.contains(name));
}

#[test]
fn a_disk_that_fills_up_costs_no_panel() {
    let home = home();
    let at = home.path().join("small");
    let Some(_small) = Small::mount(&at, 40) else {
        return;
    };
    let out = at.join("story");
    let ended = tell(home.path(), &out, &["--panels", "40"]);
    refuses(&ended, "is kept in");
    let left = fs::read_to_string(out.join("story.json")).unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(&left).is_ok());
    assert!(
        names(&out)
            .iter()
            .all(|name| !name.starts_with(".writing-"))
    );
    let rescued = home.path().join("data/rescued/story");
    let panels = |text: &str| {
        let story: serde_json::Value = serde_json::from_str(text).unwrap();
        story["panels"].as_array().unwrap().len()
    };
    let kept = fs::read_to_string(rescued.join("story.json")).unwrap();
    assert_eq!(panels(&kept), panels(&left) + 1);
    // It is offered at the next start, and is a story like others.
    let next = export(
        home.path(),
        &[&rescued, &"--png", &home.path().join("sheet.png")],
    );
    succeeds(&next);
    assert!(
        said(&next).contains("could not be saved in"),
        "{}",
        said(&next)
    );
    // A disk that is full from the beginning is told before a model is loaded.
    fs::write(at.join("filler"), vec![0; 40_000]).unwrap_err();
    let ended = tell(home.path(), at.join("other"), &["--model", "no such model"]);
    refuses(&ended, "cannot be written");
}

#[test]
fn a_model_that_is_cut_while_it_is_used_costs_no_panel_and_is_one_sentence() {
    let home = home();
    let models = home.path().join("models");
    crate::common::write_tiny_models(&models);
    let largest = |dir: &Path| {
        let files = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        files
            .max_by_key(|file| fs::metadata(file).unwrap().len())
            .unwrap()
    };
    for (at, cut) in [(0, true), (1, false)] {
        let out = home.path().join(format!("story{at}"));
        let mut command = vokenboard(home.path());
        command
            .env("VOKENBOARD_MODELS", &models)
            .args(["tell", "A fox finds a lantern."])
            .args(TELL)
            .args(["7", "--panels", "1000", "--out"])
            .arg(&out)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped());
        let telling = command.spawn().unwrap();
        let panels = || {
            let text = fs::read_to_string(out.join("story.json")).unwrap_or_default();
            let story: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            story["panels"].as_array().map_or(0, Vec::len)
        };
        while panels() < 2 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        if cut {
            let weights = largest(&models.join("tiny-writer"));
            let file = fs::File::options().write(true).open(weights).unwrap();
            file.set_len(1000).unwrap();
        } else {
            // What the system sends where the file is cut at the worst moment.
            let number = telling.id().to_string();
            let sent = Command::new("kill").args(["-BUS", &number]).status();
            assert!(sent.unwrap().success());
        }
        let ended = telling.wait_with_output().unwrap();
        let said = said(&ended);
        assert_eq!(ended.status.code(), Some(1), "{said}");
        let last = said.lines().last().unwrap();
        assert!(
            last.starts_with("vokenboard: ") && last.contains("while it was used"),
            "{said}"
        );
        assert!(panels() >= 2);
        if cut {
            fs::remove_dir_all(&models).unwrap();
            crate::common::write_tiny_models(&models);
        }
    }
}

#[test]
fn a_first_save_that_failed_does_not_make_its_folder_refuse() {
    let home = home();
    let out = home.path().join("story");
    // What it leaves, with what systems put everywhere.
    fs::create_dir_all(out.join("images")).unwrap();
    fs::create_dir(out.join(".stfolder")).unwrap();
    for file in [".lock", ".writing-abc", ".DS_Store", "Thumbs.db"] {
        fs::write(out.join(file), "x").unwrap();
    }
    succeeds(&tell(home.path(), &out, &["--panels", "1"]));
    assert!(
        names(&out)
            .iter()
            .all(|name| !name.starts_with(".writing-"))
    );
    // So are those of saves that were killed later.
    fs::write(out.join(".writing-def"), "{").unwrap();
    fs::write(out.join("images/.writing-ghi"), "{").unwrap();
    succeeds(&tell(home.path(), &out, &["--panels", "1", "--continue"]));
    for folder in [out.clone(), out.join("images")] {
        assert!(
            names(&folder)
                .iter()
                .all(|name| !name.starts_with(".writing-"))
        );
    }
}

#[test]
fn another_user_s_story_is_read_and_not_changed() {
    use std::os::unix::process::CommandExt;
    if !is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let home = home();
    let story = told(home.path());
    let others = home.path().join("others");
    fs::create_dir(&others).unwrap();
    fs::set_permissions(&others, fs::Permissions::from_mode(0o777)).unwrap();
    let as_nobody = |arguments: &[&dyn AsRef<OsStr>]| {
        let mut command = vokenboard(&others);
        for argument in arguments {
            command.arg(argument);
        }
        command
            .uid(65_534)
            .gid(65_534)
            .current_dir("/")
            .output()
            .unwrap()
    };
    let before = fs::read(story.join("story.json")).unwrap();
    let regenerate: [&dyn AsRef<OsStr>; 6] = [
        &"regenerate",
        &story,
        &"--panel",
        &"1",
        &"--model",
        &"no such model",
    ];
    refuses(&as_nobody(&regenerate), "cannot be written");
    let go_on: [&dyn AsRef<OsStr>; 6] = [
        &"tell",
        &"--continue",
        &"--out",
        &story,
        &"--model",
        &"no such model",
    ];
    refuses(&as_nobody(&go_on), "cannot be written");
    let new = home.path().join("new");
    let begin: [&dyn AsRef<OsStr>; 6] = [
        &"tell",
        &"A fox.",
        &"--out",
        &new,
        &"--model",
        &"no such model",
    ];
    refuses(&as_nobody(&begin), "cannot be written");
    assert_eq!(fs::read(story.join("story.json")).unwrap(), before);
    let sheet = others.join("sheet.png");
    succeeds(&as_nobody(&[&"export", &story, &"--png", &sheet]));
    assert!(sheet.is_file());
}

#[test]
fn folders_that_cannot_be_forced_to_the_disk_are_saved_to() {
    let home = home();
    let source = home.path().join("shim.c");
    fs::write(
        &source,
        "#include <errno.h>\n#include <stdlib.h>\n#include <sys/stat.h>\n#include <unistd.h>\n#include <sys/syscall.h>\n\
         int fsync(int fd) { struct stat s; fstat(fd, &s);\n\
         if (S_ISDIR(s.st_mode)) { errno = atoi(getenv(\"FSYNC\")); return -1; }\n\
         return syscall(SYS_fsync, fd); }\n",
    )
    .unwrap();
    let shim = home.path().join("shim.so");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&shim)
        .arg(&source)
        .status();
    if !built.is_ok_and(|built| built.success()) {
        eprintln!("skipped: there is no C compiler to build a file system's refusal with");
        return;
    }
    for (name, error) in [("EINVAL", "22"), ("EIO", "5")] {
        let out = home.path().join(name);
        for more in [&["--panels", "2"][..], &["--panels", "1", "--continue"]] {
            let mut command = vokenboard(home.path());
            command.args(["tell", "A fox finds a lantern."]).args(TELL);
            command.args(["7", "--out"]).arg(&out).args(more);
            command.env("LD_PRELOAD", &shim).env("FSYNC", error);
            succeeds(&command.output().unwrap());
        }
        assert!(out.join("story.md").is_file(), "{name}");
    }
}

#[test]
fn unused_pictures_go_to_the_trash_and_those_of_copies_never() {
    let home = home();
    let story = told(home.path());
    // Drawn by a take that was deleted since.
    let spare = "ab".repeat(32);
    let unused = story.join(format!("images/{spare}.png"));
    let picture = fs::read_dir(story.join("images"))
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let open = || succeeds(&tell(home.path(), &story, &["--continue", "--panels", "1"]));
    let copies: [(&str, Vec<u8>); 5] = [
        ("old/deep/story.json", spare.clone().into_bytes()),
        ("story.json.gz", b"\x1f\x8b\x08 packed".to_vec()),
        (".git/HEAD", b"ref".to_vec()),
        (
            ".stversions/story~1.json",
            spare.to_uppercase().into_bytes(),
        ),
        (
            "../story.json.bak",
            spare.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        ),
    ];
    for (name, bytes) in copies {
        fs::copy(&picture, &unused).unwrap();
        let copy = story.join(name);
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::write(&copy, bytes).unwrap();
        open();
        assert!(unused.is_file(), "{name} names it");
        fs::remove_file(&copy).unwrap();
        if let Some(folder) = name
            .split('/')
            .next()
            .filter(|first| *first != ".." && *first != name)
        {
            fs::remove_dir_all(story.join(folder)).unwrap();
        }
    }
    let large = fs::File::create(story.join("archive.bin")).unwrap();
    large.set_len(65 << 20).unwrap();
    open();
    assert!(unused.is_file(), "a large file may name it");
    fs::remove_file(story.join("archive.bin")).unwrap();
    open();
    let thrown = story.join(format!("trash/{spare}.png"));
    assert!(!unused.exists() && thrown.is_file());
    let clean = |more: &[&str]| {
        let mut command = vokenboard(home.path());
        let ended = command
            .arg("clean")
            .arg(&story)
            .args(more)
            .output()
            .unwrap();
        succeeds(&ended);
        String::from_utf8_lossy(&ended.stdout).into_owned()
    };
    fs::write(story.join("notes.txt"), &spare).unwrap();
    assert!(clean(&[]).contains("kept 1 picture") && thrown.is_file());
    assert!(clean(&["--all"]).contains("threw away 1 picture") && !thrown.exists());
}

#[test]
fn a_story_that_is_a_link_stays_one() {
    let home = home();
    let story = told(home.path());
    let real = home.path().join("cloud.json");
    fs::rename(story.join("story.json"), &real).unwrap();
    symlink(&real, story.join("story.json")).unwrap();
    succeeds(&tell(home.path(), &story, &["--continue", "--panels", "1"]));
    assert!(
        fs::symlink_metadata(story.join("story.json"))
            .unwrap()
            .is_symlink()
    );
    let text = fs::read_to_string(&real).unwrap();
    let saved: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(saved["panels"].as_array().unwrap().len(), 3);
}

#[test]
fn a_text_of_a_megabyte_is_exported_in_seconds() {
    let home = home();
    let story = told(home.path());
    let path = story.join("story.json");
    let mut saved: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let words = (0..150_000)
        .map(|word| format!("w{word}"))
        .collect::<Vec<_>>()
        .join(" ");
    assert!(words.len() > 1_000_000);
    saved["panels"][1]["text"] = words.into();
    fs::write(&path, saved.to_string()).unwrap();
    for (format, cut) in [
        ("sheet", true),
        ("pdf", true),
        ("html", false),
        ("markdown", false),
        ("pictures", false),
    ] {
        let started = std::time::Instant::now();
        let out = home.path().join(format);
        let ended = export(home.path(), &[&story, &"--format", &format, &"--out", &out]);
        succeeds(&ended);
        // What is cut is said; where nothing is, all of it is there.
        let told = said(&ended).contains("The text of panel 2");
        assert_eq!(told, cut, "{format}: {}", said(&ended));
        assert!(started.elapsed().as_secs() < 30, "{format}");
    }
    let page = fs::read_to_string(home.path().join("html.html")).unwrap();
    let markdown = fs::read_to_string(home.path().join("markdown/story.md")).unwrap();
    assert!(page.contains("w149999") && markdown.contains("w149999"));
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}
