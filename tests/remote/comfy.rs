//! ComfyUI.

use std::io::Cursor;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use image::{ImageFormat, Rgba, RgbaImage};
use serde_json::{Value, json};
use tungstenite::Message;
use vokenboard::remote::RemoteError;
use vokenboard::remote::comfy::{JobEvent, about, draw, upload};

use super::server::{Asked, Reply, Server, json};
use super::{client, go_on};

pub fn png(side: u32) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    RgbaImage::from_pixel(side, side, Rgba([200, 20, 20, 255]))
        .write_to(&mut bytes, ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

/// What ComfyUI says of its sampler, in both forms that it has had.
pub fn object_info() -> Value {
    json!({"KSampler": {"input": {"required": {
        "sampler_name": [["euler", "ddim"], {}],
        "scheduler": ["COMBO", {"options": ["normal", "karras"]}]}}}})
}

/// A ComfyUI that draws one picture a job; how it misbehaves is set by `lie`.
#[derive(Clone, Default)]
pub struct Comfy {
    job: Arc<Mutex<Option<(String, Value)>>>,
    done: Arc<AtomicBool>,
    pub lie: &'static str,
}

impl Comfy {
    pub fn start(lie: &'static str) -> Server {
        let comfy = Comfy {
            lie,
            ..Comfy::default()
        };
        Server::start(Box::new(move |asked| comfy.answer(asked)))
    }

    fn answer(&self, asked: &Asked) -> Reply {
        let path = asked.path.split('?').next().unwrap_or_default();
        let id = self
            .job
            .lock()
            .unwrap()
            .as_ref()
            .map(|(id, _)| id.clone())
            .unwrap_or_default();
        match path {
            "/ws" if self.lie == "no socket" => Reply::Whole(404, "text/plain", Vec::new()),
            "/ws" => self.socket(),
            "/prompt" => self.take(asked),
            "/queue" if asked.method == "POST" => json(&json!({})),
            "/queue" if self.lie == "busy" => json(
                &json!({"queue_running": [[1, "other"]], "queue_pending": [[2, "another"], [3, id]]}),
            ),
            "/queue" if self.done.load(Ordering::Relaxed) || self.lie == "forgets" => {
                json(&json!({"queue_running": [], "queue_pending": []}))
            }
            "/queue" => json(&json!({"queue_running": [[1, id]], "queue_pending": []})),
            // ComfyUI answers with nothing at all.
            "/interrupt" => Reply::Whole(200, "application/octet-stream", Vec::new()),
            "/view" => match self.lie {
                "bomb" => Reply::Whole(200, "image/png", bomb()),
                "elsewhere" => Reply::Raw(Box::new(|stream| {
                    use std::io::Write;
                    let _ = stream.write_all(b"HTTP/1.1 302 X\r\nLocation: http://192.0.2.1/a.png\r\nContent-Length: 0\r\n\r\n");
                })),
                "endless picture" => Reply::Raw(Box::new(|stream| {
                    use std::io::Write;
                    let _ = stream.write_all(b"HTTP/1.1 200 X\r\nContent-Type: image/png\r\n\r\n");
                    while stream.write_all(&[7; 1 << 20]).is_ok() {}
                })),
                "huge picture" => Reply::Raw(Box::new(|stream| {
                    use std::io::Write;
                    let _ =
                        stream.write_all(b"HTTP/1.1 200 X\r\nContent-Length: 99999999999\r\n\r\n");
                })),
                "half a picture" => Reply::Whole(200, "image/png", png(8)[..40].to_vec()),
                "web page" => Reply::Whole(200, "text/html", b"<html>".to_vec()),
                _ => Reply::Whole(200, "image/png", png(8)),
            },
            "/upload/image" => {
                json(&json!({"name": "a.png", "subfolder": "vokenboard", "type": "input"}))
            }
            "/system_stats" => json(
                &json!({"system": {"comfyui_version": "0.3.99"}, "devices": [{"name": "cpu"}]}),
            ),
            "/models/checkpoints" => json(&json!(["sd15.safetensors"])),
            "/object_info/KSampler" => json(&object_info()),
            "/view_metadata/checkpoints" => {
                json(&json!({"modelspec.architecture": "stable-diffusion-v1"}))
            }
            path if path.starts_with("/history/") => self.history(&id),
            _ => Reply::Whole(404, "text/plain", b"404".to_vec()),
        }
    }

    fn take(&self, asked: &Asked) -> Reply {
        let body = asked.json();
        if self.lie == "refuses" {
            let body = json!({"error": {"message": "Prompt outputs failed validation"}, "node_errors": {"1": {
                "class_type": "CheckpointLoaderSimple", "errors": [{"message": "Value not in list", "details": "ckpt_name: 'x'"}]}}});
            return Reply::Whole(400, "application/json", body.to_string().into_bytes());
        }
        let id = match self.lie {
            "wrong id" => "another".to_owned(),
            _ => body["prompt_id"].as_str().unwrap_or_default().to_owned(),
        };
        *self.job.lock().unwrap() = Some((id.clone(), body["prompt"].clone()));
        if self.lie == "no socket" {
            self.done.store(true, Ordering::Relaxed);
        }
        json(&json!({"prompt_id": id, "number": 1, "node_errors": {}}))
    }

    fn history(&self, id: &str) -> Reply {
        if !self.done.load(Ordering::Relaxed) {
            return json(&json!({}));
        }
        match self.lie {
            "broken history" => Reply::Whole(200, "application/json", b"{\"a".to_vec()),
            "stopped there" => json(
                &json!({id: {"outputs": {}, "status": {"status_str": "error", "completed": false, "messages": [
                ["execution_start", {"prompt_id": id}],
                ["execution_interrupted", {"prompt_id": id, "node_id": "5", "node_type": "KSampler", "executed": []}]]}}}),
            ),
            "no picture" | "over the socket" => {
                json(&json!({id: {"outputs": {}, "status": {"status_str": "success"}}}))
            }
            "fails late" => json(
                &json!({id: {"outputs": {}, "status": {"status_str": "error", "messages": [
                ["execution_error", {"node_type": "VAEDecode", "exception_message": "no memory"}]]}}}),
            ),
            _ => json(&json!({id: {"outputs": {"7": {"images": [
                {"filename": "a b&c.png", "subfolder": "x/y", "type": "temp"}]}}, "status": {"status_str": "success"}}})),
        }
    }

    fn socket(&self) -> Reply {
        let comfy = self.clone();
        Reply::Socket(Box::new(move |mut socket| {
            // The client speaks first, of what it can read.
            let _ = socket.read();
            let begun = Instant::now();
            let id = loop {
                if let Some((id, _)) = comfy.job.lock().unwrap().as_ref() {
                    break id.clone();
                }
                if begun.elapsed() > Duration::from_secs(5) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(5));
            };
            let say = |socket: &mut tungstenite::WebSocket<_>, kind: &str, data: Value| {
                let text = json!({"type": kind, "data": data}).to_string();
                let _ = socket.send(Message::text(text));
            };
            if comfy.lie == "dies" {
                return;
            }
            if comfy.lie == "fails" {
                say(
                    &mut socket,
                    "execution_error",
                    json!({"prompt_id": id, "node_type": "KSampler", "exception_message": "boom"}),
                );
                return;
            }
            if comfy.lie == "somebody stops it" {
                let data = json!({"prompt_id": id, "node_id": "5", "node_type": "KSampler", "executed": []});
                say(&mut socket, "execution_interrupted", data);
                return;
            }
            // The queue of a busy engine changes all the time.
            for jobs in 1..=20 {
                let data = json!({"status": {"exec_info": {"queue_remaining": jobs}}});
                say(&mut socket, "status", data);
                if jobs == 2 {
                    say(
                        &mut socket,
                        "execution_start",
                        json!({"prompt_id": id, "timestamp": 1}),
                    );
                }
            }
            let data = json!({"nodes": [], "prompt_id": id, "timestamp": 1});
            say(&mut socket, "execution_cached", data);
            let data = json!({"node": "5", "display_node": "5", "prompt_id": id});
            say(&mut socket, "executing", data);
            let _ = socket.send(Message::binary(vec![0, 0, 0, 4, 255, 255, 255, 255, 1]));
            let _ = socket.send(Message::text("{half"));
            for step in 1..=3 {
                say(
                    &mut socket,
                    "progress",
                    json!({"prompt_id": id, "value": step, "max": 3, "node": "5"}),
                );
                let metadata = json!({"node_id": "5", "prompt_id": id, "display_node_id": "5",
                    "parent_node_id": null, "real_node_id": "5", "image_type": "image/jpeg"});
                let metadata = metadata.to_string();
                let mut preview = 4u32.to_be_bytes().to_vec();
                preview.extend((metadata.len() as u32).to_be_bytes());
                preview.extend(metadata.as_bytes());
                preview.extend(png(4));
                let _ = socket.send(Message::binary(preview));
                if matches!(comfy.lie, "hangs" | "busy" | "forgets") {
                    std::thread::sleep(Duration::from_secs(3));
                    return;
                }
            }
            if comfy.lie == "over the socket" {
                // As `SaveImageWebsocket` does: in the old form, while its node works.
                let data = json!({"node": "7", "display_node": "7", "prompt_id": id});
                say(&mut socket, "executing", data);
                let mut picture = vec![0, 0, 0, 1, 0, 0, 0, 2];
                picture.extend(png(16));
                let _ = socket.send(Message::binary(picture));
            }
            // Time for the client to read all this, as drawing gives it.
            if comfy.lie != "over the socket" {
                std::thread::sleep(Duration::from_millis(500));
            }
            comfy.done.store(true, Ordering::Relaxed);
            let data = json!({"prompt_id": id, "timestamp": 1});
            say(&mut socket, "execution_success", data);
            say(
                &mut socket,
                "executing",
                json!({"prompt_id": id, "node": null}),
            );
            std::thread::sleep(Duration::from_millis(200));
        }))
    }
}

fn drawn(lie: &'static str) -> Result<Option<RgbaImage>, RemoteError> {
    let server = Comfy::start(lie);
    draw(
        &client(&server.address),
        &json!({"1": {}}),
        None,
        &mut |_| go_on(),
    )
}

#[test]
fn a_picture_is_drawn_with_steps_and_previews() {
    let server = Comfy::start("");
    let (mut steps, mut previews) = (Vec::new(), 0);
    let picture = draw(
        &client(&server.address),
        &json!({"1": {}}),
        Some("7"),
        &mut |event| {
            match event {
                JobEvent::Step { step, steps: all } => steps.push((step, all)),
                JobEvent::Preview(picture) => {
                    assert_eq!(picture.dimensions(), (4, 4));
                    previews += 1;
                }
                JobEvent::Quiet | JobEvent::Waiting(_) => {}
            }
            go_on()
        },
    );
    assert_eq!(picture.unwrap().unwrap().dimensions(), (8, 8));
    assert_eq!(steps, [(1, 3), (2, 3), (3, 3)]);
    assert_eq!(previews, 3);
    let view = &server.requests("/view")[0].path;
    assert!(
        view.contains("filename=a+b%26c.png") && view.contains("subfolder=x%2Fy"),
        "{view}"
    );
    assert!(server.requests("/interrupt").is_empty());
    // While the socket tells, little is asked beside it.
    assert!(server.requests("/queue").len() <= 2);
    let posted = server.requests("/prompt")[0].json();
    let socket = &server.requests("/ws")[0].path;
    assert!(socket.ends_with(posted["client_id"].as_str().unwrap()));
}

#[test]
fn a_picture_that_is_sent_over_the_socket_is_taken_from_it() {
    let server = Comfy::start("over the socket");
    let picture = draw(
        &client(&server.address),
        &json!({"7": {}}),
        Some("7"),
        &mut |_| go_on(),
    );
    assert_eq!(picture.unwrap().unwrap().dimensions(), (16, 16));
    assert!(server.requests("/view").is_empty());
}

#[test]
fn an_engine_that_was_started_anew_between_two_pictures_draws_on() {
    let server = Comfy::start("");
    let client = client(&server.address);
    let draw = || draw(&client, &json!({"1": {}}), None, &mut |_| go_on());
    assert!(draw().unwrap().is_some());
    let anew = Comfy::default();
    let _server = server.restarted(Box::new(move |asked| anew.answer(asked)));
    assert!(draw().unwrap().is_some());
}

#[test]
fn a_picture_comes_without_the_socket_too() {
    assert!(drawn("no socket").unwrap().is_some());
}

#[test]
fn lying_engines_give_one_sentence() {
    for (lie, wanted) in [
        ("refuses", "ckpt_name: 'x'"),
        ("wrong id", "another job's id"),
        ("fails", "KSampler: boom"),
        ("fails late", "VAEDecode: no memory"),
        ("broken history", "broken JSON"),
        ("no picture", "no picture"),
        ("huge picture", "more than"),
        ("half a picture", "a picture that can be read"),
        ("web page", "a web page"),
        ("bomb", "a picture that can be read"),
        ("endless picture", "more than"),
        (
            "elsewhere",
            "sends its visitors on to http://192.0.2.1/a.png",
        ),
        ("stopped there", "somebody stopped this picture"),
        ("somebody stops it", "somebody stopped this picture"),
        ("forgets", "neither in the queue"),
    ] {
        let error = drawn(lie).unwrap_err().to_string();
        assert!(error.contains(wanted), "{lie}: {error}");
        assert!(
            error.contains("http://127.0.0.1") && !error.contains('\n'),
            "{lie}: {error}"
        );
    }
}

#[test]
fn cancelling_interrupts_this_job_alone() {
    let server = Comfy::start("hangs");
    let begun = Instant::now();
    let picture = draw(
        &client(&server.address),
        &json!({"1": {}}),
        None,
        &mut |event| match event {
            JobEvent::Preview(_) => ControlFlow::Break(()),
            _ => go_on(),
        },
    );
    assert!(picture.unwrap().is_none());
    assert!(begun.elapsed() < Duration::from_secs(2));
    let id = server.requests("/prompt")[0].json()["prompt_id"].clone();
    assert_eq!(server.requests("/interrupt")[0].json()["prompt_id"], id);
}

#[test]
fn cancelling_a_waiting_job_takes_it_from_the_shared_queue() {
    let server = Comfy::start("busy");
    let mut before = None;
    let picture = draw(
        &client(&server.address),
        &json!({"1": {}}),
        None,
        &mut |event| match event {
            JobEvent::Waiting(jobs) if jobs > 0 => {
                before = Some(jobs);
                ControlFlow::Break(())
            }
            _ => go_on(),
        },
    );
    assert!(picture.unwrap().is_none());
    assert_eq!(before, Some(2));
    let id = server.requests("/prompt")[0].json()["prompt_id"].clone();
    let posts: Vec<Value> = server
        .requests("/queue")
        .iter()
        .filter(|asked| asked.method == "POST")
        .map(Asked::json)
        .collect();
    assert_eq!(posts, [json!({"delete": [id]})]);
    assert!(server.requests("/interrupt").is_empty());
}

#[test]
fn an_engine_that_dies_in_the_middle_is_told() {
    let server = Comfy::start("hangs");
    let address = server.address.clone();
    let mut server = Some(server);
    let error = draw(&client(&address), &json!({"1": {}}), None, &mut |event| {
        if matches!(event, JobEvent::Preview(_)) {
            server.take();
        }
        go_on()
    });
    let error = error.unwrap_err().to_string();
    assert!(error.contains("can't be reached"), "{error}");
}

#[test]
fn what_an_engine_has_is_listed_and_pictures_are_sent() {
    let server = Comfy::start("");
    let client = client(&server.address);
    let about = about(&client, &mut go_on).unwrap().unwrap();
    assert_eq!(about.version, "0.3.99");
    assert_eq!(about.checkpoints, ["sd15.safetensors"]);
    assert_eq!(about.samplers, ["euler", "ddim"]);
    assert_eq!(about.schedulers, ["normal", "karras"]);
    let name = upload(&client, &RgbaImage::new(2, 2), "x", &mut go_on).unwrap();
    assert_eq!(name.as_deref(), Some("vokenboard/a.png"));
}

/// A picture of 60,000 by 60,000 pixels in a few bytes.
fn bomb() -> Vec<u8> {
    let mut bytes = png(8);
    // The sides stand in the first chunk, behind its length and name; its checksum is made anew.
    for at in [16, 20] {
        bytes[at..at + 4].copy_from_slice(&60_000u32.to_be_bytes());
    }
    let mut crc = u32::MAX;
    for byte in &bytes[12..29] {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    bytes[29..33].copy_from_slice(&(!crc).to_be_bytes());
    bytes
}
