//! Stories from files: an author's own projects, and CC3M, VIST and MMDialog as they are published.

use super::data::{TrainingPanel, TrainingPicture, TrainingStory};
use super::left_out::{self, PictureFile};
use crate::cause::Cause;
use crate::story::{Project, picture_endings, read_picture_file};
use crate::train::{Result, TrainError};
use crate::voken::tidy;
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

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

fn bad(path: &Path, line: Option<usize>, why: impl Into<Cause>) -> TrainError {
    TrainError::Data {
        path: path.to_owned(),
        line,
        why: why.into(),
    }
}

/// What was read, and what could not be.
#[derive(Default)]
struct ReadStories {
    /// Lines and pictures.
    met: usize,
    bad: Vec<TrainError>,
    /// Picture files, and where each was named first.
    named: BTreeMap<PathBuf, (PathBuf, Option<usize>)>,
}

impl ReadStories {
    /// Passes on what is good, and notes what is bad.
    fn keep<T>(&mut self, met: Result<T>) -> Option<T> {
        self.met += 1;
        met.map_err(|error| self.bad.push(error)).ok()
    }

    /// Looks at every picture file, and takes those that can't be read out of the stories.
    fn look(&mut self, stories: &mut Vec<TrainingStory>) {
        let look = |(file, (path, line)): (&PathBuf, &(PathBuf, Option<usize>))| {
            let error = read_picture_file(file).err()?;
            Some((file.clone(), bad(path, *line, error)))
        };
        let unread: HashMap<PathBuf, TrainError> = self.named.par_iter().filter_map(look).collect();
        let is_bad = |panel: &TrainingPanel| match &panel.picture {
            Some(TrainingPicture::File(file)) => unread.contains_key(&file.path),
            _ => false,
        };
        for story in stories.iter_mut() {
            // A conversation ends where what is talked of is not seen, as in the reference.
            let end = story
                .panels
                .iter()
                .position(&is_bad)
                .filter(|_| story.spoken);
            story.panels.truncate(end.unwrap_or(usize::MAX));
            for panel in &mut story.panels {
                if is_bad(panel) {
                    panel.picture = None;
                }
            }
        }
        // A caption without its picture says nothing.
        stories.retain(|story| match story.panels.as_slice() {
            [] => false,
            [one] if !story.spoken => one.picture.is_some(),
            _ => true,
        });
        let mut unread: Vec<(PathBuf, TrainError)> = unread.into_iter().collect();
        unread.sort_by(|a, b| a.0.cmp(&b.0));
        self.bad.extend(unread.into_iter().map(|(_, error)| error));
    }

    /// Tells what is left out.
    ///
    /// # Errors
    /// The first that is bad, where there are too many.
    fn end(self) -> Result<()> {
        let count = self.bad.len();
        let too_many = left_out::too_many(count, self.met);
        let mut bad = self.bad.into_iter();
        if too_many && let Some(first) = bad.next() {
            return Err(match first {
                TrainError::Data { path, line, why } if count > 1 => TrainError::Data {
                    path,
                    line,
                    why: format!("{why}; {count} of {} are bad, which is too many", self.met)
                        .into(),
                },
                first => first,
            });
        }
        bad.for_each(|error| left_out::report(&error));
        Ok(())
    }
}

/// All stories in `dir`: a project or a folder of projects; else every `.tsv` (CC3M), `.json`
/// with `annotations` (VIST) and file of conversations (MMDialog) in it. Lines and pictures that
/// can't be read are left out, which is told on stderr.
///
/// # Errors
/// A file that can't be read or is of another kind; the first bad line or picture, by file and
/// line, where more than 5 % are bad; a folder without any story.
pub fn read(dir: &Path) -> Result<Vec<TrainingStory>> {
    let mut reading = ReadStories::default();
    let mut stories = Vec::new();
    if Project::is_project(dir) {
        stories.push(project(dir, &mut reading)?);
    } else {
        read_folder(dir, &mut stories, &mut reading)?;
    }
    let any = !stories.is_empty();
    reading.look(&mut stories);
    reading.end()?;
    match stories.is_empty() {
        true if any => Err(bad(
            dir,
            None,
            "nothing in it has both a text and a picture",
        )),
        true => Err(bad(
            dir,
            None,
            "there is no project, .tsv of CC3M, .json of VIST or .jsonl of MMDialog in it",
        )),
        false => Ok(stories),
    }
}

fn read_folder(
    dir: &Path,
    stories: &mut Vec<TrainingStory>,
    reading: &mut ReadStories,
) -> Result<()> {
    let entries = std::fs::read_dir(dir).map_err(|e| bad(dir, None, e))?;
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| Ok(entry.map_err(|e| bad(dir, None, e))?.path()))
        .collect::<Result<_>>()?;
    paths.sort();
    for path in &paths {
        let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
        if path.is_dir() {
            if Project::is_project(path) {
                stories.push(project(path, reading)?);
            }
        } else if ending == "tsv" {
            stories.extend(cc3m(path, reading)?);
        } else if ending == "json" || ending == "jsonl" {
            stories.extend(json(path, ending == "jsonl", reading)?);
        }
    }
    Ok(())
}

/// The panels that an author settled on.
fn project(dir: &Path, reading: &mut ReadStories) -> Result<TrainingStory> {
    let (document, images, _) = Project::read(dir).map_err(|e| bad(dir, None, e))?;
    let panels = (1..).zip(&document.story().panels);
    let panels: Vec<TrainingPanel> = panels
        .map(|(number, panel)| {
            let picture = panel.picture().and_then(|take| {
                let lost = || {
                    bad(
                        dir,
                        None,
                        format!("the picture of panel {number} is missing or damaged"),
                    )
                };
                reading.keep(images.shown(&take.image).ok_or_else(lost))
            });
            TrainingPanel {
                text: panel.text.clone(),
                picture: picture.map(TrainingPicture::Image),
                description: panel.text.clone(),
                stage: Vec::new(),
            }
        })
        .collect();
    match panels.iter().any(|panel| !panel.text.trim().is_empty()) {
        true => Ok(story_of(panels)),
        false => Err(bad(dir, None, "none of its panels has a text")),
    }
}

fn text_of(path: &Path) -> Result<String> {
    crate::files::read_text(path).map_err(|e| bad(path, None, e))
}

/// The picture `name` (with or without ending) near the file `path`; what is in it is looked at
/// when all are known.
fn picture(
    path: &Path,
    line: Option<usize>,
    name: &str,
    reading: &mut ReadStories,
) -> Result<TrainingPicture> {
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
    let endings = picture_endings();
    let found = dirs.into_iter().flatten().find_map(|dir| {
        FOLDERS.iter().find_map(|folder| {
            let file = dir.join(folder).join(name);
            let mut tried = std::iter::once(file.clone()).chain(endings.iter().map(|ending| {
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
            let named = (path.to_owned(), line);
            reading.named.entry(file.clone()).or_insert(named);
            Ok(TrainingPicture::File(Arc::new(PictureFile {
                path: file,
                named_in: path.to_owned(),
                line,
            })))
        }
        None => Err(bad(
            path,
            line,
            format!("there is no picture {name:?} near it"),
        )),
    }
}

fn story_of(panels: Vec<TrainingPanel>) -> TrainingStory {
    TrainingStory {
        panels,
        spoken: false,
    }
}

fn without_picture(text: &str) -> TrainingPanel {
    TrainingPanel {
        text: tidy(text),
        picture: None,
        description: tidy(text),
        stage: Vec::new(),
    }
}

fn one(text: &str, picture: TrainingPicture) -> TrainingPanel {
    TrainingPanel {
        picture: Some(picture),
        ..without_picture(text)
    }
}

/// Conceptual Captions: a line a picture, caption and file name apart by a tab; a first line
/// `caption<TAB>image` is passed over.
fn cc3m(path: &Path, reading: &mut ReadStories) -> Result<Vec<TrainingStory>> {
    let mut stories = Vec::new();
    for (number, line) in (1..).zip(text_of(path)?.lines()) {
        if line.trim().is_empty() || (number == 1 && line.starts_with("caption\t")) {
            continue;
        }
        let row = captioned(path, number, line, reading);
        stories.extend(reading.keep(row).map(|panel| story_of(vec![panel])));
    }
    Ok(stories)
}

fn captioned(
    path: &Path,
    number: usize,
    line: &str,
    reading: &mut ReadStories,
) -> Result<TrainingPanel> {
    let at = Some(number);
    let no_tab = || bad(path, at, "there is no tab between caption and picture");
    let (caption, name) = line.split_once('\t').ok_or_else(no_tab)?;
    if caption.trim().is_empty() {
        return Err(bad(path, at, "the caption is empty"));
    }
    Ok(one(caption, picture(path, at, name.trim(), reading)?))
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

fn json(path: &Path, lines: bool, reading: &mut ReadStories) -> Result<Vec<TrainingStory>> {
    let text = text_of(path)?;
    let place = |e: &serde_json::Error| Some(e.line()).filter(|line| *line > 0);
    if !lines {
        match serde_json::from_str::<Value>(&text) {
            Ok(value) if value.get("annotations").is_some() => return vist(path, &value, reading),
            Ok(Value::Array(all)) => {
                let all = all.into_iter().map(|c| Ok((None, c)));
                return mmdialog(path, all, reading);
            }
            Ok(one) if one.get("conversation").is_some() => {
                return mmdialog(path, std::iter::once(Ok((None, one))), reading);
            }
            Ok(_) => {
                let why = "it has neither annotations (VIST) nor conversations (MMDialog)";
                return Err(bad(path, None, why));
            }
            // Several values, one a line, is how MMDialog comes.
            Err(e) if !e.is_syntax() || !text.trim_start().starts_with('{') => {
                return Err(bad(path, place(&e), e));
            }
            Err(_) => {}
        }
    }
    let mut all = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let value = serde_json::from_str(line);
        let value = value.map_err(|e| bad(path, Some(number), e));
        all.push(value.map(|value| (Some(number), value)));
    }
    mmdialog(path, all.into_iter(), reading)
}

/// `{"annotations": [[{story_id, photo_flickr_id, worker_arranged_photo_order, text}]]}`.
fn vist(path: &Path, value: &Value, reading: &mut ReadStories) -> Result<Vec<TrainingStory>> {
    let annotations: Vec<Vec<Sentence>> =
        serde_json::from_value(value["annotations"].clone()).map_err(|e| bad(path, None, e))?;
    let mut stories: BTreeMap<String, BTreeMap<u32, TrainingPanel>> = BTreeMap::new();
    for sentence in annotations.into_iter().flatten() {
        let picture = picture(path, None, &sentence.photo_flickr_id, reading);
        let panel = TrainingPanel {
            picture: reading.keep(picture),
            ..without_picture(&sentence.text)
        };
        let story = stories.entry(sentence.story_id).or_default();
        story.insert(sentence.worker_arranged_photo_order, panel);
    }
    Ok(stories
        .into_values()
        .map(|story| story_of(story.into_values().collect()))
        .collect())
}

/// Conversations: lists of turns, each a list of `{"__TEXT__": ..}` and `{"__MEDIA__": ..}`,
/// perhaps inside `conversation` and `turn`.
fn mmdialog(
    path: &Path,
    all: impl Iterator<Item = Result<(Option<usize>, Value)>>,
    reading: &mut ReadStories,
) -> Result<Vec<TrainingStory>> {
    let mut stories = Vec::new();
    for value in all {
        let panels = value.and_then(|(line, value)| conversation(path, line, &value, reading));
        let panels = reading.keep(panels).unwrap_or_default();
        if !panels.is_empty() {
            stories.push(TrainingStory {
                panels,
                spoken: true,
            });
        }
    }
    Ok(stories)
}

fn conversation(
    path: &Path,
    line: Option<usize>,
    value: &Value,
    reading: &mut ReadStories,
) -> Result<Vec<TrainingPanel>> {
    let turns = value.get("conversation").unwrap_or(value).as_array();
    let turns = turns.ok_or_else(|| bad(path, line, "a conversation is not a list of turns"))?;
    let mut panels = Vec::new();
    for turn in turns {
        let parts = turn.get("turn").unwrap_or(turn).as_array();
        let parts = parts.ok_or_else(|| bad(path, line, "a turn is not a list of parts"))?;
        let field = |key: &str| parts.iter().find_map(|part| part.get(key)?.as_str());
        let text = tidy(field("__TEXT__").unwrap_or_default());
        // A turn without text ends what can be learnt, as in the reference.
        if text.is_empty() {
            break;
        }
        let picture = match field("__MEDIA__") {
            None => None,
            Some(name) => {
                let found = picture(path, line, name, reading);
                match reading.keep(found) {
                    // So does one whose picture is not there.
                    None => break,
                    found => found,
                }
            }
        };
        panels.push(TrainingPanel {
            picture,
            ..without_picture(&text)
        });
    }
    Ok(panels)
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

    fn written(dir: &Path, name: &str, text: &str) -> Result<Vec<TrainingStory>> {
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
    fn a_few_bad_ones_among_many_are_left_out() {
        let dir = folder();
        fs::write(dir.path().join("images/cut.png"), b"\x89PNG\r\n\x1a\n cut").unwrap();
        let mut text: String = (0..99).map(|row| format!("fox {row}\ta.png\n")).collect();
        text.push_str("bad\tcut.png\n");
        let stories = written(dir.path(), "train.tsv", &text).unwrap();
        assert_eq!(stories.len(), 99);
        text.push_str(&"no tab\n".repeat(5));
        let error = told(dir.path(), "train.tsv", &text);
        assert!(
            error.contains("line 101") && error.contains("6 of 105"),
            "{error}"
        );
        // A story keeps the words of a picture that is left out; a conversation ends there.
        let turn = |text: &str, media: &str| {
            format!(r#"[{{"__TEXT__":"{text}"}},{{"__MEDIA__":"{media}"}}]"#)
        };
        let mut talks: String = (0..40)
            .map(|_| format!("[{},{}]\n", turn("hello", "a"), turn("see", "b")))
            .collect();
        talks += &format!(
            "[{},{},{}]\n",
            turn("one", "a"),
            turn("two", "cut"),
            turn("three", "b")
        );
        let stories = written(dir.path(), "train.jsonl", &talks);
        fs::remove_file(dir.path().join("train.jsonl")).unwrap();
        assert_eq!(stories.unwrap().last().unwrap().panels.len(), 1);
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
