//! The rooms of the house import only rooms below them, in the order that `ARCHITECTURE.md` draws.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Every room, top to bottom. A room imports those of later lines only.
const ORDER: &[&[&str]] = &[
    &["main"],
    &["studio", "cli"],
    &["eval"],
    &["train"],
    &["engine"],
    &["pipeline"],
    &["catalogue"],
    &["remote"],
    &["export"],
    &["published"],
    &["voken"],
    &["judges"],
    &["vision", "llm", "diffusion", "upscale"],
    &["weights"],
    &["nn"],
    &["storyworld"],
    &["story"],
    &["logging"],
    &["cause", "files", "pixels", "resample", "typefaces", "words"],
];

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
    found
}

/// The room that a source file is in: its folder under `src`, or its own name there.
fn room(src: &Path, file: &Path) -> String {
    let inside = file.strip_prefix(src).unwrap();
    let first = inside.components().next().unwrap().as_os_str();
    let name = first.to_string_lossy();
    name.trim_end_matches(".rs").to_owned()
}

/// Rooms that a line names after `crate::` (or after the library's name, in `main`).
fn imports(text: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for line in text.lines() {
        // Words about a room are no import.
        let code = line.split("//").next().unwrap_or_default();
        for start in ["crate::", "vokenboard::"] {
            for (at, _) in code.match_indices(start) {
                let rest = &code[at + start.len()..];
                let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '_');
                let name = &rest[..end.unwrap_or(rest.len())];
                // `$crate::` and macros stand for whoever uses them.
                if !name.is_empty() && !code[..at].ends_with('$') {
                    rooms.insert(name.to_owned());
                }
            }
        }
    }
    rooms
}

fn level(room: &str) -> Option<usize> {
    ORDER.iter().position(|rooms| rooms.contains(&room))
}

#[test]
fn no_arrow_runs_back() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut back = Vec::new();
    let mut unknown = BTreeSet::new();
    let mut seen = 0;
    for file in sources(&src) {
        let own = room(&src, &file);
        if ["lib", "processor"].contains(&own.as_str()) {
            continue;
        }
        let Some(from) = level(&own) else {
            unknown.insert(own);
            continue;
        };
        for other in imports(&fs::read_to_string(&file).unwrap()) {
            if other == own {
                continue;
            }
            // What is no room of ours is a module of a macro or a crate.
            let Some(to) = level(&other) else { continue };
            seen += 1;
            if to <= from {
                back.push(format!("{} imports {other}", file.display()));
            }
        }
    }
    assert!(
        unknown.is_empty(),
        "put these rooms into ORDER: {unknown:?}"
    );
    assert!(seen > 300, "only {seen} imports were found");
    assert!(
        back.is_empty(),
        "arrows that run back:\n{}",
        back.join("\n")
    );
}

#[test]
fn an_arrow_back_would_be_seen() {
    let found =
        imports("use crate::story::Story; // crate::studio\nfn f() { vokenboard::nn::x() }");
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["nn", "story"]);
    assert!(level("nn") > level("llm") && level("studio") < level("story"));
}
