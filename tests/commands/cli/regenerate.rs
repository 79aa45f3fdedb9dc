//! `regenerate`: another take of a panel.

use super::*;

#[test]
fn regenerate_adds_a_take_and_makes_it_active() {
    let (_temp, out) = told(2);
    let before = panels(&out);
    let pictures = images(&out);
    regenerate(
        &out,
        &["--panel", "2", "--image", "--seed", "99", "--guidance", "3"],
    )
    .assert()
    .success();
    let after = panels(&out);
    assert_eq!(before[0], after[0]);
    let takes = &after[1]["pictures"];
    assert_eq!(takes["items"].as_array().unwrap().len(), 2);
    assert_eq!(takes["active"], 1);
    assert_eq!(takes["items"][1]["record"]["settings"]["seed"], 99);
    assert_eq!(takes["items"][1]["record"]["settings"]["guidance"], 3.0);
    assert_eq!(takes["items"][1]["record"]["settings"]["steps"], 2);
    assert_eq!(images(&out), pictures + 1);
    assert_eq!(before[1]["text"], after[1]["text"]);

    regenerate(&out, &["--panel", "2", "--text", "--seed", "5"])
        .assert()
        .success();
    let rewritten = panels(&out);
    assert_eq!(rewritten[1]["texts"]["items"].as_array().unwrap().len(), 2);
    assert_eq!(rewritten[1]["pictures"], after[1]["pictures"]);
    assert_ne!(rewritten[1]["text"], after[1]["text"]);
}

#[test]
fn regenerating_with_the_same_seed_and_settings_gives_the_same_picture() {
    let (_temp, out) = told(1);
    let pictures = images(&out);
    let seed = panels(&out)[0]["pictures"]["items"][0]["record"]["settings"]["seed"].to_string();
    regenerate(&out, &["--panel", "1", "--seed", &seed])
        .assert()
        .success();
    assert_eq!(images(&out), pictures);
    regenerate(&out, &["--panel", "1"]).assert().success();
    assert_eq!(images(&out), pictures + 1);
}

#[test]
fn regenerate_names_what_is_wrong() {
    let (_temp, out) = told(1);
    refused(regenerate(&out, &["--panel", "2"]), "from 1 to 1");
    regenerate(&out, &["--panel", "0"]).assert().code(2);
    regenerate(&out, &["--panel", "1", "--text", "--image"])
        .assert()
        .code(2);
    let temp = tempfile::tempdir().unwrap();
    refused(
        regenerate(temp.path(), &["--panel", "1"]),
        "not a Vokenboard project",
    );
}
