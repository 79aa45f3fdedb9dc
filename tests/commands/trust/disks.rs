//! Full disks, protected folders, models that are cut, folders of other users.

use super::*;

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
