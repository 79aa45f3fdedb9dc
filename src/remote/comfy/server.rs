//! What a ComfyUI has, and pictures that are sent to it.

use std::io::Cursor;

use image::{ImageFormat, RgbaImage};
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::Value;

use super::super::{Cancel, Client, RemoteError};

/// What an engine says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// Version of ComfyUI.
    pub version: String,
    /// The device it computes on, for people.
    pub device: String,
    /// Names of the checkpoints.
    pub checkpoints: Vec<String>,
    /// Names of the LoRAs.
    pub loras: Vec<String>,
    /// Names of the VAEs.
    pub vaes: Vec<String>,
    /// Names of the samplers.
    pub samplers: Vec<String>,
    /// Names of the spacings of noise levels (`scheduler`).
    pub schedulers: Vec<String>,
}

/// Asks what is there. `None` when cancelled.
///
/// # Errors
/// When the server is not a ComfyUI or does not answer.
pub fn about(client: &Client, cancel: &mut Cancel) -> Result<Option<About>, RemoteError> {
    client.wait(cancel, async {
        let address = client.address();
        let stats = client.get(address.join("/system_stats")).await?;
        let Some(system) = stats.get("system") else {
            return Err(client.unexpected("JSON without \"system\"", "ComfyUI's system_stats"));
        };
        let text = |value: Option<&Value>| {
            let text = value.and_then(Value::as_str).unwrap_or_default();
            super::super::error::quoted(text)
        };
        let mut about = About {
            version: text(system.get("comfyui_version")),
            device: text(stats.pointer("/devices/0/name")),
            ..About::default()
        };
        let folder = |name: &str| address.join(&format!("/models/{name}"));
        about.checkpoints = names(&client.get(folder("checkpoints")).await?);
        // These folders need not be there.
        about.loras = names(&client.get(folder("loras")).await.unwrap_or_default());
        about.vaes = names(&client.get(folder("vae")).await.unwrap_or_default());
        let sampler = client.get(address.join("/object_info/KSampler")).await?;
        let choices = |name: &str| {
            // [["euler", ...], {...}] or, in later versions, ["COMBO", {"options": [...]}].
            let input = sampler.pointer(&format!("/KSampler/input/required/{name}"));
            let old = input.and_then(|input| input.get(0));
            let new = input.and_then(|input| input.pointer("/1/options"));
            let list = old.filter(|old| old.is_array()).or(new);
            names(list.unwrap_or(&Value::Null))
        };
        about.samplers = choices("sampler_name");
        about.schedulers = choices("scheduler");
        Ok(about)
    })
}

/// As [`about`], without a way to cancel: for loading, which waits for the answer.
///
/// # Errors
/// As [`about`].
pub fn look(client: &Client) -> Result<About, RemoteError> {
    let about = about(client, &mut || std::ops::ControlFlow::Continue(()))?;
    Ok(about.unwrap_or_default())
}

fn names(list: &Value) -> Vec<String> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Sends a picture and returns the name under which graphs find it. The name is that of its
/// contents, so that the same picture lies there once.
///
/// # Errors
/// When the engine does not take it.
pub fn upload(
    client: &Client,
    picture: &RgbaImage,
    name: &str,
    cancel: &mut Cancel,
) -> Result<Option<String>, RemoteError> {
    let mut png = Cursor::new(Vec::new());
    picture
        .write_to(&mut png, ImageFormat::Png)
        .map_err(|error| RemoteError::Workflow(format!("a picture can't be sent ({error})")))?;
    let url = client.address().join("/upload/image");
    let part = Part::bytes(png.into_inner()).file_name(format!("{name}.png"));
    let form = Form::new()
        .part("image", part)
        .text("overwrite", "true")
        .text("subfolder", "vokenboard");
    let request = client.request(Method::POST, url.clone()).multipart(form);
    client.wait(cancel, async {
        let answer = client.send(request, url.path()).await?;
        let body = client.body(answer, url.path(), 1 << 20).await?;
        let answer = client.json(&body)?;
        let Some(name) = answer.get("name").and_then(Value::as_str) else {
            return Err(client.unexpected("JSON without \"name\"", "the name of a picture"));
        };
        let folder = answer
            .get("subfolder")
            .and_then(Value::as_str)
            .unwrap_or_default();
        Ok(match folder {
            "" => name.to_owned(),
            folder => format!("{folder}/{name}"),
        })
    })
}
