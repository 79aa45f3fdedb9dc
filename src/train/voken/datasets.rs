//! Stories from files: an author's own projects, and CC3M, VIST and MMDialog as they are published.

use super::data::{Panel, Picture, Strip};
use crate::story::Project;
use crate::train::{Result, TrainError};
use crate::voken::tidy;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Endings of pictures that can be read.
const ENDINGS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];
/// Folders beside a data set's file in which its pictures may lie.
const FOLDERS: [&str; 7] = [
    "",
    "images",
    "training",
    "validation",
    "train",
    "val",
    "test",
];

fn bad(path: &Path, line: Option<usize>, why: impl Into<String>) -> TrainError {
    TrainError::Data {
        path: path.to_owned(),
        line,
        why: why.into(),
    }
}

/// All stories in `dir`: a project or a folder of projects; else every `.tsv` (CC3M), `.json`
/// with `annotations` (VIST) and file of conversations (MMDialog) in it.
///
/// # Errors
/// The first thing that can't be read, by file and line, or a folder without any story.
pub fn read(dir: &Path) -> Result<Vec<Strip>> {
    if Project::is_project(dir) {
        return Ok(vec![project(dir)?]);
    }
    let entries = std::fs::read_dir(dir).map_err(|e| bad(dir, None, e.to_string()))?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| Ok(entry.map_err(|e| bad(dir, None, e.to_string()))?.path()))
        .collect::<Result<_>>()?;
    paths.sort();
    let mut stories = Vec::new();
    for path in &paths {
        let ending = path.extension().and_then(|e| e.to_str()).unwrap_or("");
        match ending {
            _ if path.is_dir() && Project::is_project(path) => stories.push(project(path)?),
            "tsv" => stories.extend(cc3m(path)?),
            "json" | "jsonl" => stories.extend(json(path, ending == "jsonl")?),
            _ => {}
        }
    }
    match stories.is_empty() {
        true => Err(bad(
            dir,
            None,
            "there is no project, .tsv of CC3M, .json of VIST or .jsonl of MMDialog in it",
        )),
        false => Ok(stories),
    }
}

/// The panels that an author settled on.
fn project(dir: &Path) -> Result<Strip> {
    let (document, images, warnings) =
        Project::read(dir).map_err(|e| bad(dir, None, e.to_string()))?;
    if let Some(warning) = warnings.into_iter().next() {
        return Err(bad(dir, None, warning));
    }
    let panels: Vec<Panel> = document
        .story()
        .panels
        .iter()
        .map(|panel| Panel {
            text: panel.text.clone(),
            picture: panel
                .picture()
                .and_then(|take| images.get(&take.image))
                .map(Picture::Image),
            description: panel.text.clone(),
        })
        .collect();
    match panels.iter().any(|panel| !panel.text.trim().is_empty()) {
        true => Ok(told(panels)),
        false => Err(bad(dir, None, "none of its panels has a text")),
    }
}

fn text_of(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| bad(path, None, e.to_string()))
}

/// The picture `name` (with or without ending) near the file `path`.
fn picture(path: &Path, line: Option<usize>, name: &str) -> Result<Picture> {
    if name.starts_with("http://") || name.starts_with("https://") {
        let why = format!("{name} is on the web; download the pictures and name their files");
        return Err(bad(path, line, why));
    }
    let inside = |name: &str| {
        let parts = Path::new(name).components();
        !name.is_empty()
            && parts
                .into_iter()
                .all(|p| matches!(p, std::path::Component::Normal(_)))
    };
    let dir = path.parent().unwrap_or(Path::new("."));
    let dirs = [Some(dir), dir.parent()];
    let found = dirs.into_iter().flatten().find_map(|dir| {
        FOLDERS.iter().find_map(|folder| {
            let file = dir.join(folder).join(name);
            let mut tried = std::iter::once(file.clone()).chain(ENDINGS.iter().map(|ending| {
                let mut with = file.clone().into_os_string();
                with.push(".");
                with.push(ending);
                PathBuf::from(with)
            }));
            tried.find(|file| file.is_file())
        })
    });
    match found.filter(|_| inside(name)) {
        Some(file) => {
            // Only the header is read here; what is behind it is told when it is met.
            let size = image::ImageReader::open(&file)
                .and_then(image::ImageReader::with_guessed_format)
                .map_err(|e| e.to_string())
                .and_then(|reader| reader.into_dimensions().map_err(|e| e.to_string()));
            size.map_err(|why| bad(&file, None, why))?;
            Ok(Picture::File(file))
        }
        None => Err(bad(
            path,
            line,
            format!("there is no picture {name:?} near it"),
        )),
    }
}

fn told(panels: Vec<Panel>) -> Strip {
    Strip {
        panels,
        spoken: false,
    }
}

fn one(text: &str, picture: Picture) -> Panel {
    Panel {
        text: tidy(text),
        picture: Some(picture),
        description: tidy(text),
    }
}

/// Conceptual Captions: a line a picture, caption and file name apart by a tab; a first line
/// `caption<TAB>image` is passed over.
fn cc3m(path: &Path) -> Result<Vec<Strip>> {
    let mut stories = Vec::new();
    for (number, line) in (1..).zip(text_of(path)?.lines()) {
        if line.trim().is_empty() || (number == 1 && line.starts_with("caption\t")) {
            continue;
        }
        let line_number = Some(number);
        let Some((caption, name)) = line.split_once('\t') else {
            return Err(bad(
                path,
                line_number,
                "there is no tab between caption and picture",
            ));
        };
        if caption.trim().is_empty() {
            return Err(bad(path, line_number, "the caption is empty"));
        }
        let picture = picture(path, line_number, name.trim())?;
        stories.push(told(vec![one(caption, picture)]));
    }
    Ok(stories)
}

/// A sentence of VIST's stories in sequence.
#[derive(Deserialize)]
struct Sentence {
    story_id: String,
    photo_flickr_id: String,
    worker_arranged_photo_order: u32,
    #[serde(alias = "original_text")]
    text: String,
}

fn json(path: &Path, lines: bool) -> Result<Vec<Strip>> {
    let text = text_of(path)?;
    let place = |e: &serde_json::Error| Some(e.line()).filter(|line| *line > 0);
    if !lines {
        match serde_json::from_str::<Value>(&text) {
            Ok(value) if value.get("annotations").is_some() => return vist(path, &value),
            Ok(Value::Array(all)) => return mmdialog(path, all.into_iter().map(|c| (None, c))),
            Ok(one) if one.get("conversation").is_some() => {
                return mmdialog(path, std::iter::once((None, one)));
            }
            Ok(_) => {
                let why = "it has neither annotations (VIST) nor conversations (MMDialog)";
                return Err(bad(path, None, why));
            }
            // Several values, one a line, is how MMDialog comes.
            Err(e) if !e.is_syntax() || !text.trim_start().starts_with('{') => {
                return Err(bad(path, place(&e), e.to_string()));
            }
            Err(_) => {}
        }
    }
    let mut all = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let value =
            serde_json::from_str(line).map_err(|e| bad(path, Some(number), e.to_string()))?;
        all.push((Some(number), value));
    }
    mmdialog(path, all.into_iter())
}

/// `{"annotations": [[{story_id, photo_flickr_id, worker_arranged_photo_order, text}]]}`.
fn vist(path: &Path, value: &Value) -> Result<Vec<Strip>> {
    let annotations: Vec<Vec<Sentence>> = serde_json::from_value(value["annotations"].clone())
        .map_err(|e| bad(path, None, e.to_string()))?;
    let mut stories: BTreeMap<String, BTreeMap<u32, Panel>> = BTreeMap::new();
    for sentence in annotations.into_iter().flatten() {
        let picture = picture(path, None, &sentence.photo_flickr_id)?;
        let story = stories.entry(sentence.story_id).or_default();
        story.insert(
            sentence.worker_arranged_photo_order,
            one(&sentence.text, picture),
        );
    }
    Ok(stories
        .into_values()
        .map(|story| told(story.into_values().collect()))
        .collect())
}

/// Conversations: lists of turns, each a list of `{"__TEXT__": ..}` and `{"__MEDIA__": ..}`,
/// perhaps inside `conversation` and `turn`.
fn mmdialog(path: &Path, all: impl Iterator<Item = (Option<usize>, Value)>) -> Result<Vec<Strip>> {
    let mut stories = Vec::new();
    for (line, value) in all {
        let turns = value.get("conversation").unwrap_or(&value).as_array();
        let turns =
            turns.ok_or_else(|| bad(path, line, "a conversation is not a list of turns"))?;
        let mut story = Vec::new();
        for turn in turns {
            let parts = turn.get("turn").unwrap_or(turn).as_array();
            let parts = parts.ok_or_else(|| bad(path, line, "a turn is not a list of parts"))?;
            let said = |key: &str| parts.iter().find_map(|part| part.get(key)?.as_str());
            let text = tidy(said("__TEXT__").unwrap_or_default());
            // A turn without text ends what can be learnt, as in the reference.
            if text.is_empty() {
                break;
            }
            let media = said("__MEDIA__");
            story.push(Panel {
                picture: media.map(|name| picture(path, line, name)).transpose()?,
                description: text.clone(),
                text,
            });
        }
        if !story.is_empty() {
            stories.push(Strip {
                panels: story,
                spoken: true,
            });
        }
    }
    Ok(stories)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("images")).unwrap();
        for name in ["a.png", "b.png", "7.png"] {
            let picture = image::RgbImage::from_pixel(4, 4, image::Rgb([9, 9, 9]));
            picture.save(dir.path().join("images").join(name)).unwrap();
        }
        dir
    }

    fn written(dir: &Path, name: &str, text: &str) -> Result<Vec<Strip>> {
        fs::write(dir.join(name), text).unwrap();
        read(dir)
    }

    fn told(dir: &Path, name: &str, text: &str) -> String {
        let error = written(dir, name, text).unwrap_err().to_string();
        fs::remove_file(dir.join(name)).unwrap();
        error
    }

    #[test]
    fn captions_with_pictures_are_read_and_a_bad_line_is_named() {
        let dir = folder();
        let good = "caption\timage\na fox\ta.png\nan  owl\tb\n";
        let stories = written(dir.path(), "train.tsv", good).unwrap();
        assert_eq!(stories.len(), 2);
        assert_eq!(stories[1].panels[0].text, "an owl");
        for (text, why) in [
            ("a fox a.png\n", "line 1"),
            ("a fox\ta.png\nan owl\tnowhere.png\n", "line 2"),
            ("a fox\thttps://example.org/a.png\n", "on the web"),
            ("a fox\t../images/a.png\n", "no picture"),
            ("\ta.png\n", "caption is empty"),
        ] {
            let error = told(dir.path(), "train.tsv", text);
            assert!(
                error.contains(why) && error.contains("train.tsv"),
                "{error}"
            );
        }
        fs::write(dir.path().join("images/c.png"), b"no picture").unwrap();
        let error = told(dir.path(), "train.tsv", "a bear\tc.png\n");
        assert!(error.contains("c.png"), "{error}");
    }

    #[test]
    fn vist_stories_are_in_the_order_of_their_photos() {
        let dir = folder();
        let row = |photo: &str, order: u32, text: &str| {
            format!(
                r#"[{{"story_id":"1","photo_flickr_id":"{photo}","worker_arranged_photo_order":{order},"original_text":"{text}"}}]"#
            )
        };
        let (one, two) = (row("7", 1, "second."), row("a", 0, "first."));
        let good = format!(r#"{{"annotations":[{one},{two}]}}"#);
        let stories = written(dir.path(), "sis.json", &good).unwrap();
        let texts: Vec<&str> = stories[0].panels.iter().map(|p| p.text.as_str()).collect();
        assert_eq!(texts, ["first.", "second."]);
        let error = told(dir.path(), "sis.json", "{\"annotations\":\n [[{}]]}");
        assert!(error.contains("story_id"), "{error}");
        let error = told(dir.path(), "sis.json", "[1,\n2");
        assert!(error.contains("line 2"), "{error}");
        let missing = row("404", 0, "x");
        let error = told(
            dir.path(),
            "sis.json",
            &format!(r#"{{"annotations":[{missing}]}}"#),
        );
        assert!(error.contains("404"), "{error}");
    }

    #[test]
    fn conversations_are_read_line_by_line() {
        let dir = folder();
        let good = concat!(
            r#"{"conversation":[{"turn":[{"__TEXT__":"hello"}]},{"turn":[{"__TEXT__":"see"},{"__MEDIA__":"a"}]}]}"#,
            "\n",
            r#"[[{"__TEXT__":"one"}],[{"__MEDIA__":"b"}],[{"__TEXT__":"after"}]]"#,
            "\n"
        );
        let stories = written(dir.path(), "train.jsonl", good).unwrap();
        assert_eq!(stories.len(), 2);
        assert!(stories[0].panels[0].picture.is_none());
        assert!(stories[0].panels[1].picture.is_some());
        assert_eq!(stories[1].panels.len(), 1);
        assert!(stories.iter().all(|story| story.spoken));
        let error = told(dir.path(), "train.jsonl", "[]\n{\"a\":1}\n");
        assert!(error.contains("line 2"), "{error}");
        let error = told(dir.path(), "train.jsonl", "{oh\n");
        assert!(error.contains("line 1"), "{error}");
    }

    #[test]
    fn an_empty_folder_says_what_it_could_hold() {
        let dir = folder();
        let error = read(dir.path()).unwrap_err().to_string();
        assert!(error.contains("CC3M"), "{error}");
    }
}
