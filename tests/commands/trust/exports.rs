//! What is written where something lies already.

use super::*;

#[test]
fn exports_harm_neither_the_story_nor_other_files() {
    let home = home();
    let story = told(home.path());
    let json = fs::read(story.join("story.json")).unwrap();
    let picture = a_picture_of(&story);
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
fn a_damaged_picture_is_left_out_and_named() {
    let home = home();
    let story = told(home.path());
    let picture = a_picture_of(&story);
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
