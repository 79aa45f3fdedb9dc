//! Pictures that nothing names any more, and stories that are links.

use super::*;

#[test]
fn unused_pictures_go_to_the_trash_and_those_of_copies_never() {
    let home = home();
    let story = told(home.path());
    // Drawn by a take that was deleted since.
    let spare = "ab".repeat(32);
    let unused = story.join(format!("images/{spare}.png"));
    let picture = a_picture_of(&story);
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
