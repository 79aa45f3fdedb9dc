//! Streams that are full or closed, texts that begin with dashes, odd paths, long texts.

use super::*;

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
