//! Engines elsewhere in the window: adding one, and telling a story with it.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use egui_kittest::kittest::Queryable as _;
use serde_json::json;
use vokenboard::pipeline;
use vokenboard::studio::models::ModelLibrary;
use vokenboard::studio::state::{ModelChoice, Readiness};

use crate::server::{Reply, Server, events, json as reply};
use crate::window::open_with;

const MENU: &str = "Model and device: Doodle · CPU";

/// A ComfyUI without a WebSocket, whose pictures are done at once.
fn comfy() -> Server {
    let mut picture = std::io::Cursor::new(Vec::new());
    image::RgbaImage::from_pixel(8, 8, image::Rgba([200, 20, 20, 255]))
        .write_to(&mut picture, image::ImageFormat::Png)
        .unwrap();
    let picture = picture.into_inner();
    Server::start(Box::new(move |asked| {
        let path = asked.path.split('?').next().unwrap_or_default();
        match path {
            "/system_stats" => reply(
                &json!({"system": {"comfyui_version": "0.3.64"}, "devices": [{"name": "cpu"}]}),
            ),
            "/models/checkpoints" => reply(&json!(["sd15.safetensors", "sdxl.safetensors"])),
            "/object_info/KSampler" => reply(&json!({"KSampler": {"input": {"required": {
                "sampler_name": [["euler"], {}], "scheduler": [["normal"], {}]}}}})),
            "/prompt" if asked.method == "POST" => {
                reply(&json!({"prompt_id": asked.json()["prompt_id"], "number": 1}))
            }
            "/prompt" => reply(&json!({"exec_info": {"queue_remaining": 0}})),
            "/view" => Reply::Whole(200, "image/png", picture.clone()),
            path => match path.strip_prefix("/history/") {
                Some(id) => reply(&json!({id: {"outputs": {"7": {"images": [
                    {"filename": "a.png", "subfolder": "", "type": "temp"}]}},
                    "status": {"status_str": "success"}}})),
                None => Reply::Whole(404, "text/plain", Vec::new()),
            },
        }
    }))
}

fn words() -> Server {
    Server::start(Box::new(|asked| match asked.path.as_str() {
        "/v1/models" => {
            let model = |id: &str| json!({"id": id, "owned_by": "vllm", "max_model_len": 8192});
            reply(&json!({"data": [model("story:7b"), model("story:1b")]}))
        }
        "/v1/chat/completions" => {
            let text = "An owl asked him where he had found it.";
            let piece = json!({"choices": [{"delta": {"content": text}}]}).to_string();
            let end = json!({"choices": [{"delta": {}, "finish_reason": "stop"}]}).to_string();
            events(vec![piece, end, "[DONE]".to_owned()], Duration::ZERO)
        }
        _ => Reply::Whole(404, "text/plain", Vec::new()),
    }))
}

#[test]
fn engines_are_added_in_the_window_and_panels_show_where_they_were_made() {
    let temp = tempfile::tempdir().unwrap();
    let models = temp.path().join("models");
    fs::create_dir(&models).unwrap();
    let folder = models.clone();
    let mut t = open_with(1280.0, 800.0, egui::Theme::Light, |parts| {
        let doodle = Arc::clone(&parts.loader_for);
        parts.loader_for = Arc::new(move |choice: &ModelChoice| match choice.model.as_str() {
            "doodle" => doodle(choice),
            _ => pipeline::loader(pipeline::LoadOptions {
                models: Some(folder.clone()),
                model: Some(choice.model.clone()),
                writer: choice.writer.clone(),
                ..pipeline::LoadOptions::default()
            }),
        });
    });
    let library = ModelLibrary::new(models, Vec::new(), Arc::new(|| {}));
    t.studio.state_mut().state.models.library = Some(library);
    t.studio.run_steps(2);

    let fill = |t: &mut crate::window::Test, label: &str, text: &str| {
        t.studio.get_by_label(label).focus();
        t.studio.run_steps(2);
        t.studio.get_by_label(label).type_text(text);
        t.studio.run_steps(2);
    };
    // A page that is no engine is told in the sheet, which stays.
    let page = Server::start(Box::new(|_| {
        Reply::Whole(200, "text/html", b"<html>hello".to_vec())
    }));
    t.click(MENU);
    t.click("Add an engine…");
    t.click("Pictures: ComfyUI");
    fill(&mut t, "Address of the engine", &page.address);
    t.click("Add the engine");
    t.until("it is told", |s| {
        s.query_by_label_contains("sent a web page where").is_some()
    });
    // However much there is to say, what stands on the sheet lies in its place from the first frame.
    let close = |t: &crate::window::Test| t.studio.get_by_label("Close Add an engine").rect();
    for trouble in [None, Some("It does not answer. ".repeat(40))] {
        let library = t.studio.state_mut().state.models.library.as_mut();
        library.unwrap().engine.trouble = trouble;
        t.studio.run_steps(1);
        let first = close(&t);
        t.studio.run_steps(5);
        assert_eq!(close(&t), first);
    }
    t.click("Close Add an engine");
    drop(page);

    let (words, pictures) = (words(), comfy());
    for (kind, address) in [
        (
            "Words: llama-server, LM Studio, Ollama, vLLM",
            format!("{}/v1", words.address),
        ),
        ("Pictures: ComfyUI", pictures.address.clone()),
    ] {
        t.click(MENU);
        t.click("Add an engine…");
        let form = t.studio.state_mut().state.models.library.as_mut().unwrap();
        form.engine.address.clear();
        t.studio.run_steps(2);
        t.click(kind);
        fill(&mut t, "Address of the engine", &address);
        t.click("Add the engine");
        t.until("the engine is added", |s| {
            s.state().state.view.sheet.is_none()
        });
    }
    let writers = &t.state().models.writers;
    assert!(writers.iter().any(|writer| writer.id == "story-7b"));

    t.click(MENU);
    t.click("story:7b");
    t.until("the writer is chosen", |s| {
        s.state().state.models.choice.writer.is_some()
    });
    let menu = "Model and device: ";
    let node = t.studio.query_all_by_label_contains(menu).next().unwrap();
    node.click();
    t.studio.run_steps(3);
    t.click("sd15");
    t.until("the engines are ready", |s| {
        let models = &s.state().state.models;
        models.choice.model == "sd15" && matches!(models.readiness, Readiness::Ready(_))
    });
    t.write("Milo found a lantern.");
    t.idle();
    t.write("");
    t.idle();
    assert_eq!(t.texts().len(), 2);
    let host = pictures.address.trim_start_matches("http://");
    let words = format!("Drawn by sd15 on ComfyUI at {host}");
    t.studio.get_by_label_contains(&words);
}
