//! `story.json` as text: as we write it, and as other programs and people leave it.

use crate::cause::Cause;
use std::collections::HashSet;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Document, ProjectError, SCHEMA_VERSION, Story, is_default};

/// `story.json`
#[derive(Serialize, Deserialize)]
struct StoryFile<S> {
    schema_version: u64,
    /// Ids from here on have not been given to a panel.
    #[serde(default)]
    next_panel: u64,
    /// The same of members of the cast; left out in a story that never had one.
    #[serde(default, skip_serializing_if = "is_default")]
    next_member: u64,
    #[serde(flatten)]
    story: S,
}

/// The text of `story.json`.
pub(super) fn write(document: &Document) -> serde_json::Result<Vec<u8>> {
    let file = StoryFile {
        schema_version: SCHEMA_VERSION,
        next_panel: document.next_id(),
        next_member: document.next_member(),
        story: document.story(),
    };
    let mut json = serde_json::to_vec_pretty(&file)?;
    json.push(b'\n');
    Ok(json)
}

/// The story in the text `bytes` of the file `path`, and a sentence for each record in it that
/// can't be understood: its take stays without it.
///
/// # Errors
/// A text that is no story, or one of a newer Vokenboard.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<(Document, Vec<String>), ProjectError> {
    let broken = |why: Cause| ProjectError::Broken {
        path: path.to_path_buf(),
        why,
    };
    let mut value: Value = parse(bytes).map_err(|why| broken(why.into()))?;
    let fields = value
        .as_object_mut()
        .ok_or_else(|| broken("it is not a JSON object".to_string().into()))?;
    // The version first: a newer story may have another shape altogether.
    let version = version(fields.get("schema_version")).map_err(|why| broken(why.into()))?;
    if version > SCHEMA_VERSION {
        return Err(ProjectError::Newer {
            path: path.to_path_buf(),
            found: version,
        });
    }
    fields.insert("schema_version".to_string(), version.into());
    let mut warnings = Vec::new();
    let file = StoryFile::<Story>::deserialize(&value).or_else(|_| {
        // Programs that know no whole numbers write 1.0 for 1.
        whole_numbers(&mut value);
        drop_odd_records(&mut value, &mut warnings);
        StoryFile::<Story>::deserialize(&value).map_err(|e| broken(e.into()))
    })?;
    let mut story = file.story;
    let mut ids = HashSet::new();
    for panel in &mut story.panels {
        if !ids.insert(panel.id) {
            return Err(broken(
                format!("two panels have the id {}", panel.id).into(),
            ));
        }
        // Text that was changed in the file by hand is the author's own.
        let text = std::mem::take(&mut panel.text);
        panel.show_active_text();
        if !text.is_empty() {
            panel.set_text(text);
        }
    }
    let document = Document::with_next_ids(story, file.next_panel, file.next_member);
    Ok((document, warnings))
}

fn parse(bytes: &[u8]) -> Result<Value, String> {
    const MARK: &[u8] = b"\xef\xbb\xbf";
    let bytes = bytes.strip_prefix(MARK).unwrap_or(bytes);
    // With its mark, or with the zero that every letter of a brace has then.
    let utf_16 = [b"\xff\xfe", b"\xfe\xff", b"{\0", b"\0{"];
    if utf_16.iter().any(|begin| bytes.starts_with(*begin)) {
        return Err("it is written in UTF-16; save it as UTF-8".to_string());
    }
    serde_json::from_slice(bytes).map_err(|e| e.to_string())
}

/// A version as a whole number, a number with a point or a text; a story without one is of the
/// first.
fn version(written: Option<&Value>) -> Result<u64, String> {
    let number = match written {
        None | Some(Value::Null) => return Ok(1),
        Some(Value::Number(number)) => number.as_f64(),
        Some(Value::String(text)) => text.trim().parse().ok(),
        Some(_) => None,
    };
    match number {
        // A newer version may have a part behind the point.
        Some(number) if number >= 1.0 && number.is_finite() => Ok(number.ceil() as u64),
        _ => Err("its schema_version is not a version".to_string()),
    }
}

/// Writes numbers that are whole without a point.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        Value::Number(number) => {
            let exact = |x: &f64| x.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(x);
            if let Some(whole) = number.as_f64().filter(exact).filter(|_| number.is_f64()) {
                *number = (whole as u64).into();
            }
        }
        _ => {}
    }
}

/// Takes out the records that can't be understood, and says which.
fn drop_odd_records(value: &mut Value, warnings: &mut Vec<String>) {
    let panels = value.get_mut("panels").and_then(Value::as_array_mut);
    for (number, panel) in (1..).zip(panels.into_iter().flatten()) {
        for (takes, what) in [("texts", "text"), ("pictures", "picture")] {
            let items = panel.pointer_mut(&format!("/{takes}/items"));
            let items = items.and_then(Value::as_array_mut).into_iter().flatten();
            for (take, item) in (1..).zip(items) {
                let Some(fields) = item.as_object_mut() else {
                    continue;
                };
                let record = fields.get("record").filter(|record| !record.is_null());
                let Some(Err(error)) = record.map(super::Record::deserialize) else {
                    continue;
                };
                fields.remove("record");
                warnings.push(format!(
                    "How {what} {take} of panel {number} was made can't be understood ({error}); \
                     it stays without its record."
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::{Edit, Record, TextTake};

    fn read_text(text: &str) -> Result<(Document, Vec<String>), ProjectError> {
        read(Path::new("story.json"), text.as_bytes())
    }

    fn said(bytes: &[u8]) -> String {
        read(Path::new("story.json"), bytes)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn versions_are_read_as_other_tools_write_them() {
        for version in [
            r#""schema_version": 2,"#,
            r#""schema_version": 2.0,"#,
            r#""schema_version": "2","#,
            r#""schema_version": " 2.0 ","#,
            r#""schema_version": null,"#,
            "",
        ] {
            let text = format!(r#"{{{version} "title": "A fox", "panels": [{{"id": 1}}]}}"#);
            let (document, warnings) = read_text(&text).unwrap();
            assert_eq!(document.story().panels.len(), 1, "{version}");
            assert!(warnings.is_empty());
        }
        let newer = said(br#"{"schema_version": "99", "chapters": 1}"#);
        assert!(newer.contains("schema version 99"), "{newer}");
        let odd = said(br#"{"schema_version": "two", "title": ""}"#);
        assert!(odd.contains("schema_version"), "{odd}");
    }

    #[test]
    fn a_byte_order_mark_is_passed_over_and_utf_16_is_named() {
        let text = r#"{"schema_version": 1, "title": "A fox"}"#;
        let (document, _) = read_text(&format!("\u{feff}{text}")).unwrap();
        assert_eq!(document.story().title, "A fox");
        for little in [true, false] {
            for mark in ["\u{feff}", ""] {
                let units = format!("{mark}{text}");
                let units = units.encode_utf16();
                let bytes: Vec<u8> = units
                    .flat_map(|unit| match little {
                        true => unit.to_le_bytes(),
                        false => unit.to_be_bytes(),
                    })
                    .collect();
                assert!(said(&bytes).contains("UTF-16"));
            }
        }
    }

    #[test]
    fn one_odd_record_costs_that_record_alone() {
        let mut document = Document::new(Story::default());
        let panel = document.insert_panel(0);
        for text in ["one", "two"] {
            let take = TextTake::new(text, Some(Record::default()));
            document.apply(Edit::AddText { panel, take }).unwrap();
        }
        let written = String::from_utf8(write(&document).unwrap()).unwrap();
        let mut value: Value = serde_json::from_str(&written).unwrap();
        value["panels"][0]["texts"]["items"][0]["record"]["settings"]["steps"] = "many".into();
        value["panels"][0]["id"] = 1.0.into();
        let (read, warnings) = read_text(&value.to_string()).unwrap();
        let takes = read.story().panels[0].texts.items();
        assert_eq!(takes.len(), 2);
        assert!(takes[0].record.is_none() && takes[1].record.is_some());
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("text 1 of panel 1") && warnings[0].contains("many"));
        // Saved and read again, it is a whole story.
        let again = String::from_utf8(write(&read).unwrap()).unwrap();
        assert_eq!(read_text(&again).unwrap().0.story(), read.story());
    }
}
