//! What ComfyUI says on its WebSocket.

use std::io::Cursor;

use image::{ImageReader, Limits, RgbaImage};
use serde_json::Value;

/// Event types of binary messages.
const PREVIEW: u32 = 1;
const PREVIEW_WITH_METADATA: u32 = 4;
/// Pixels of a side of a preview that are read at most.
const PREVIEW_SIDE: u32 = 4096;
/// The same of a picture.
pub(super) const PICTURE_SIDE: u32 = 16_384;

#[derive(Debug)]
pub(super) enum SocketEvent {
    /// The queue, everybody's, has so many jobs.
    Queue(u64),
    /// The job has begun.
    Started,
    /// A node counts its steps.
    Progress {
        step: u32,
        steps: u32,
    },
    /// This node works now.
    Executing(String),
    Preview(Box<RgbaImage>),
    /// What the output node sent: the picture itself.
    Picture(Box<RgbaImage>),
    /// The job is done, or as much of it as was not known from before.
    Done,
    Failed(String),
    Interrupted,
    /// Of another job, or of no interest.
    Other,
}

/// Reads a text message about the job `id`.
pub(super) fn of_text(text: &str, id: &str) -> SocketEvent {
    let Ok(message) = serde_json::from_str::<Value>(text) else {
        return SocketEvent::Other;
    };
    let data = message.get("data").unwrap_or(&Value::Null);
    let kind = message
        .get("type")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if kind == "status" {
        let left = data.pointer("/status/exec_info/queue_remaining");
        return SocketEvent::Queue(left.and_then(Value::as_u64).unwrap_or_default());
    }
    if data.get("prompt_id").and_then(Value::as_str) != Some(id) {
        return SocketEvent::Other;
    }
    match kind {
        "execution_start" => SocketEvent::Started,
        "progress" => {
            let number = |name: &str| data.get(name).and_then(Value::as_u64);
            match (number("value"), number("max")) {
                (Some(step), Some(steps)) if steps > 0 => SocketEvent::Progress {
                    step: step.min(steps).min(10_000) as u32,
                    steps: steps.min(10_000) as u32,
                },
                _ => SocketEvent::Other,
            }
        }
        "executing" => match data.get("node").and_then(Value::as_str) {
            Some(node) => SocketEvent::Executing(node.to_owned()),
            None => SocketEvent::Done,
        },
        "execution_success" => SocketEvent::Done,
        "execution_interrupted" => SocketEvent::Interrupted,
        "execution_error" => {
            let field = |name: &str| data.get(name).and_then(Value::as_str).unwrap_or_default();
            let (node, error) = (field("node_type"), field("exception_message"));
            SocketEvent::Failed(super::super::error::quoted(&format!("{node}: {error}")))
        }
        _ => SocketEvent::Other,
    }
}

/// Reads a binary message: four bytes of type, then `PREVIEW` with four bytes of format, or
/// `PREVIEW_WITH_METADATA` with a length, JSON and the picture. A preview of another job says so in
/// its metadata; one without metadata is of the job that runs, which the server sends to its owner
/// alone. What comes from the node `output` is no preview but the picture itself
/// (`SaveImageWebsocket`); a message that does not say so is of the node that works, `now`.
pub(super) fn of_bytes(bytes: &[u8], id: &str, now: &str, output: Option<&str>) -> SocketEvent {
    let number = |at: usize| {
        let four = bytes.get(at..at + 4)?;
        Some(u32::from_be_bytes(four.try_into().ok()?))
    };
    let mut from = now.to_owned();
    let picture = match (number(0), number(4)) {
        (Some(PREVIEW), Some(_)) => bytes.get(8..),
        (Some(PREVIEW_WITH_METADATA), Some(length)) => {
            let end = 8usize.saturating_add(length as usize);
            let metadata = bytes.get(8..end);
            let metadata = metadata.and_then(|text| serde_json::from_slice::<Value>(text).ok());
            let field = |name: &str| metadata.as_ref()?.get(name)?.as_str();
            if let Some(node) = field("node_id") {
                from = node.to_owned();
            }
            match field("prompt_id") {
                Some(of) if of != id => None,
                _ => bytes.get(end..),
            }
        }
        _ => None,
    };
    let is_result = output.is_some_and(|output| output == from);
    let side = if is_result {
        PICTURE_SIDE
    } else {
        PREVIEW_SIDE
    };
    match picture.and_then(|bytes| decode(bytes, side)).map(Box::new) {
        Some(picture) if is_result => SocketEvent::Picture(picture),
        Some(picture) => SocketEvent::Preview(picture),
        None => SocketEvent::Other,
    }
}

/// A picture from a server: PNG, JPEG or WebP, at most `side` pixels a side.
pub(super) fn decode(bytes: &[u8], side: u32) -> Option<RgbaImage> {
    let mut reader = ImageReader::new(Cursor::new(bytes))
        .with_guessed_format()
        .ok()?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(side);
    limits.max_image_height = Some(side);
    limits.max_alloc = Some(512 << 20);
    reader.limits(limits);
    Some(reader.decode().ok()?.to_rgba8())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png() -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        RgbaImage::new(3, 2)
            .write_to(&mut bytes, image::ImageFormat::Png)
            .unwrap();
        bytes.into_inner()
    }

    fn binary(kind: u32, metadata: Option<&str>, picture: &[u8]) -> Vec<u8> {
        let mut bytes = kind.to_be_bytes().to_vec();
        match metadata {
            Some(text) => {
                bytes.extend((text.len() as u32).to_be_bytes());
                bytes.extend(text.as_bytes());
            }
            None => bytes.extend(2u32.to_be_bytes()),
        }
        bytes.extend(picture);
        bytes
    }

    #[test]
    fn both_previews_are_read_and_those_of_others_are_not() {
        let own = r#"{"node_id":"5","prompt_id":"a","display_node_id":"5","parent_node_id":null,"real_node_id":"5","image_type":"image/png"}"#;
        let read = |bytes: &[u8], id: &str, now: &str, output: Option<&str>| {
            let event = format!("{:?}", of_bytes(bytes, id, now, output));
            event.split('(').next().unwrap_or_default().to_owned()
        };
        let (old, new) = (binary(1, None, &png()), binary(4, Some(own), &png()));
        assert!(
            matches!(of_bytes(&old, "a", "", None), SocketEvent::Preview(p) if p.dimensions() == (3, 2))
        );
        assert_eq!(read(&new, "a", "", None), "Preview");
        assert_eq!(read(&new, "b", "", None), "Other");
        // From the output node comes the picture itself, by either message.
        assert_eq!(read(&old, "a", "9", Some("9")), "Picture");
        assert_eq!(read(&old, "a", "3", Some("9")), "Preview");
        assert_eq!(read(&new, "a", "9", Some("9")), "Preview");
        assert_eq!(read(&new, "a", "3", Some("5")), "Picture");
    }

    #[test]
    fn half_and_broken_frames_are_passed_over() {
        let whole = binary(4, Some("{}"), &png());
        // The last bytes of a PNG say only that it ends.
        for cut in 0..whole.len() - 16 {
            assert!(
                matches!(of_bytes(&whole[..cut], "a", "", None), SocketEvent::Other),
                "{cut}"
            );
        }
        let mut lie = whole;
        lie[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(matches!(of_bytes(&lie, "a", "", None), SocketEvent::Other));
        assert!(matches!(
            of_bytes(&binary(9, None, b"x"), "a", "", None),
            SocketEvent::Other
        ));
    }

    #[test]
    fn texts_about_the_job_are_told_from_others() {
        let text = |kind: &str, data: &str| format!(r#"{{"type":"{kind}","data":{data}}}"#);
        let is = |text: String, wanted: &str| {
            let event = format!("{:?}", of_text(&text, "a"));
            assert!(event.starts_with(wanted), "{text}: {event}");
        };
        is(
            text(
                "status",
                r#"{"status":{"exec_info":{"queue_remaining":3}},"sid":"x"}"#,
            ),
            "Queue(3)",
        );
        is(text("execution_start", r#"{"prompt_id":"a"}"#), "Started");
        is(
            text(
                "progress",
                r#"{"value":2,"max":9,"prompt_id":"a","node":"5"}"#,
            ),
            "Progress { step: 2, steps: 9 }",
        );
        is(
            text("progress", r#"{"value":2,"max":9,"prompt_id":"b"}"#),
            "Other",
        );
        is(
            text("progress", r#"{"value":-1,"max":0,"prompt_id":"a"}"#),
            "Other",
        );
        is(
            text(
                "executing",
                r#"{"node":"5","display_node":"5","prompt_id":"a"}"#,
            ),
            "Executing(\"5\")",
        );
        is(
            text("executing", r#"{"node":null,"prompt_id":"a"}"#),
            "Done",
        );
        is(
            text("execution_interrupted", r#"{"prompt_id":"a"}"#),
            "Interrupted",
        );
        is(
            text(
                "execution_error",
                r#"{"prompt_id":"a","node_type":"KSampler","exception_message":"out of\nmemory"}"#,
            ),
            "Failed(\"KSampler: out of memory\")",
        );
        is("{half".to_owned(), "Other");
    }
}
