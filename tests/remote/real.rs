//! The same against real servers, where the environment names them:
//! `VOKENBOARD_REAL_COMFYUI=http://127.0.0.1:8188 VOKENBOARD_REAL_WRITER=http://127.0.0.1:8080/v1`
//! with `cargo test --release --test remote real -- --nocapture`. The checkpoint is the first that
//! the engine has, and pictures are small.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use image::{Rgba, RgbaImage};
use serde_json::{Value, json};
use vokenboard::llm::Sampling;
use vokenboard::llm::chat::{ChatOptions, Message};
use vokenboard::remote::comfy::{
    CheckpointGraph, InitImageNode, JobEvent, LoraNode, about, checkpoint_graph, draw, jobs, upload,
};
use vokenboard::remote::openai::{chat, list};
use vokenboard::remote::{Address, Client};

use super::go_on;

fn named(variable: &str) -> Option<Client> {
    let address = std::env::var(variable).ok()?;
    Some(Client::new(Address::parse(&address).unwrap(), None).unwrap())
}

/// What came of a picture: its size, seconds to the first preview and in all.
fn drawn(client: &Client, what: &str, graph: &Value, output: Option<&str>) -> RgbaImage {
    let begun = Instant::now();
    let (mut first, mut steps, mut previews) = (None, 0, 0);
    let picture = draw(client, graph, output, &mut |event| {
        match event {
            JobEvent::Preview(_) => {
                first.get_or_insert(begun.elapsed());
                previews += 1;
            }
            JobEvent::Step { .. } => steps += 1,
            JobEvent::Quiet | JobEvent::Waiting(_) => {}
        }
        go_on()
    });
    let picture = picture.unwrap().unwrap();
    let (all, first) = (begun.elapsed().as_secs_f32(), first.unwrap_or_default());
    let first = first.as_secs_f32();
    println!(
        "{what}: {steps} steps, {previews} previews, the first after {first:.2} s, done after {all:.2} s"
    );
    picture
}

#[test]
fn a_real_comfyui_draws_what_it_is_asked_for_and_stops_when_told() {
    let Some(client) = named("VOKENBOARD_REAL_COMFYUI") else {
        return;
    };
    let known = about(&client, &mut go_on).unwrap().unwrap();
    println!("{known:?}");
    let side: u32 = std::env::var("VOKENBOARD_REAL_SIDE").map_or(64, |side| side.parse().unwrap());
    let plain = CheckpointGraph {
        checkpoint: known.checkpoints[0].clone(),
        prompt: "a fox".to_owned(),
        width: side,
        height: side,
        seed: u64::from(rand::random::<u32>()),
        steps: 2,
        guidance: 7.0,
        sampler: "euler".to_owned(),
        scheduler: "normal".to_owned(),
        ..CheckpointGraph::default()
    };
    let graph = checkpoint_graph(&plain);
    let one = drawn(&client, "text to picture", &graph, None);
    assert_eq!(one.dimensions(), (side, side));
    // The same again is known there and comes at once.
    assert_eq!(drawn(&client, "the same again", &graph, None), one);

    let sent =
        |picture: &RgbaImage, name: &str| upload(&client, picture, name, &mut go_on).unwrap();
    let half = RgbaImage::from_fn(side, side, |x, _| match x < side / 2 {
        true => Rgba([255; 4]),
        false => Rgba([0, 0, 0, 255]),
    });
    let (image, mask) = (sent(&one, "one").unwrap(), sent(&half, "half").unwrap());
    for (what, mask) in [("picture to picture", None), ("inpainting", Some(mask))] {
        let guide = InitImageNode {
            image: image.clone(),
            strength: 0.5,
            mask,
        };
        let graph = checkpoint_graph(&CheckpointGraph {
            guide: Some(guide),
            ..plain.clone()
        });
        let other = drawn(&client, what, &graph, None);
        assert_eq!(other.dimensions(), (side, side));
        assert!(other != one);
    }
    if let Some(lora) = known.loras.first() {
        let lora = LoraNode {
            name: lora.clone(),
            weight: 1.0,
        };
        let graph = checkpoint_graph(&CheckpointGraph {
            loras: vec![lora],
            clip_skip: Some(1),
            ..plain.clone()
        });
        assert!(drawn(&client, "a LoRA and clip skip", &graph, None) != one);
    }
    // Over the WebSocket, the last node being that which sends.
    let mut socket = checkpoint_graph(&CheckpointGraph {
        seed: plain.seed + 1,
        ..plain.clone()
    });
    let last = socket.as_object().unwrap().len().to_string();
    socket[&last]["class_type"] = json!("SaveImageWebsocket");
    drawn(&client, "over the WebSocket", &socket, Some(&last));

    // What can't be drawn is one sentence.
    let error = draw(
        &client,
        &checkpoint_graph(&CheckpointGraph {
            checkpoint: "none.safetensors".to_owned(),
            ..plain.clone()
        }),
        None,
        &mut |_| go_on(),
    );
    println!("refused: {}", error.unwrap_err());

    // Cancelled at its first step, and the queue is empty again.
    let long = checkpoint_graph(&CheckpointGraph {
        seed: plain.seed + 2,
        steps: 50,
        ..plain
    });
    let cancelled = draw(&client, &long, None, &mut |event| match event {
        JobEvent::Step { .. } => ControlFlow::Break(()),
        _ => go_on(),
    });
    assert!(cancelled.unwrap().is_none());
    let begun = Instant::now();
    while jobs(&client, &mut go_on).unwrap() != Some(0) {
        assert!(begun.elapsed() < Duration::from_secs(120), "it draws on");
        std::thread::sleep(Duration::from_millis(50));
    }
    let seconds = begun.elapsed().as_secs_f32();
    println!("cancelled: the engine is idle after {seconds:.2} s");
}

#[test]
fn a_real_writer_streams_and_stops_when_told() {
    let Some(client) = named("VOKENBOARD_REAL_WRITER") else {
        return;
    };
    let listed = list(&client, &mut go_on).unwrap().unwrap();
    println!("{listed:?}");
    let messages = [Message::user("Tell me a story of a fox and a lantern.")];
    let options = |max_tokens| ChatOptions {
        sampling: Sampling {
            seed: 7,
            ..Sampling::default()
        },
        max_tokens,
        stop: Vec::new(),
    };
    let begun = Instant::now();
    let mut first = None;
    let answer = chat(&client, &listed[0], &messages, &options(40), &mut |piece| {
        if !piece.is_empty() {
            first.get_or_insert(begun.elapsed());
        }
        go_on()
    });
    let answer = answer.unwrap().unwrap();
    println!(
        "first word after {first:?}, all after {:?}: {}",
        begun.elapsed(),
        answer.text
    );
    // The same seed gives the same text.
    let again = chat(&client, &listed[0], &messages, &options(40), &mut |_| {
        go_on()
    });
    assert_eq!(again.unwrap().unwrap().text, answer.text);
    let mut pieces = 0;
    let begun = Instant::now();
    let cancelled = chat(
        &client,
        &listed[0],
        &messages,
        &options(2000),
        &mut |piece| {
            pieces += usize::from(!piece.is_empty());
            match pieces {
                0..3 => go_on(),
                _ => ControlFlow::Break(()),
            }
        },
    );
    assert_eq!(cancelled.unwrap(), None);
    println!("cancelled after {:?}", begun.elapsed());
    // The server's one place is free again at once.
    let begun = Instant::now();
    chat(&client, &listed[0], &messages, &options(1), &mut |_| {
        go_on()
    })
    .unwrap();
    println!("and answers again after {:?}", begun.elapsed());
}
