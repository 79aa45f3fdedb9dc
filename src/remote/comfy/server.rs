//! What a ComfyUI has, and pictures that are sent to it.

use std::io::Cursor;

use image::{ImageFormat, RgbaImage};
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde_json::Value;

use super::super::{Cancel, Client, RemoteError};

/// Name, version and devices of an engine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerInfo {
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
pub fn about(client: &Client, cancel: &mut Cancel) -> Result<Option<ServerInfo>, RemoteError> {
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
        let mut about = ServerInfo {
            version: text(system.get("comfyui_version")),
            device: text(stats.pointer("/devices/0/name")),
            ..ServerInfo::default()
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

/// Jobs that run or wait on the engine, everybody's. Asked once. `None` when cancelled.
///
/// # Errors
/// When the engine does not answer.
pub fn jobs(client: &Client, cancel: &mut Cancel) -> Result<Option<u64>, RemoteError> {
    client.wait(cancel, async {
        let url = client.address().join("/prompt");
        let request = client.request(Method::GET, url.clone());
        let request = request.timeout(client.patience().connect);
        let answer = client.send(request, url.path()).await?;
        let body = client.body(answer, url.path(), 1 << 20).await?;
        let left = client.json(&body)?;
        let left = left.pointer("/exec_info/queue_remaining");
        Ok(left.and_then(Value::as_u64).unwrap_or_default())
    })
}

/// Pixels a side of the pictures that a checkpoint was made for, where the engine knows them from
/// the file (`modelspec` in its metadata).
pub fn side(client: &Client, checkpoint: &str) -> Option<u32> {
    let mut url = client.address().join("/view_metadata/checkpoints");
    url.query_pairs_mut().append_pair("filename", checkpoint);
    // A file without metadata is answered by 404.
    let metadata = client.run(client.get(url)).ok()?;
    side_in(&metadata)
}

fn side_in(metadata: &Value) -> Option<u32> {
    let text = |name: &str| metadata.get(name).and_then(Value::as_str);
    let resolution = text("modelspec.resolution").and_then(|sides| {
        let (width, height) = sides.split_once('x')?;
        let sides: (u32, u32) = (width.trim().parse().ok()?, height.trim().parse().ok()?);
        let sides = (256..=2048).contains(&sides.0).then_some(sides)?;
        (sides.0 == sides.1).then_some(sides.0)
    });
    let architecture = text("modelspec.architecture").unwrap_or_default();
    let trained_on = text("ss_base_model_version").unwrap_or_default();
    let by_name = [architecture, trained_on].into_iter().find_map(|name| {
        let starts = |start: &str| name.starts_with(start);
        let known = [
            ("stable-diffusion-v1", 512),
            ("sd_v1", 512),
            ("stable-diffusion-v2-512", 512),
            ("stable-diffusion-v2-768", 768),
            ("stable-diffusion-xl", 1024),
            ("sdxl", 1024),
            ("stable-diffusion-3", 1024),
            ("flux", 1024),
        ];
        known
            .into_iter()
            .find(|(start, _)| starts(start))
            .map(|(_, side)| side)
    });
    resolution.or(by_name)
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_size_of_a_checkpoint_s_pictures_is_in_its_metadata() {
        for (metadata, side) in [
            (
                json!({"modelspec.architecture": "stable-diffusion-v1"}),
                Some(512),
            ),
            (
                json!({"modelspec.architecture": "stable-diffusion-xl-v1-base", "modelspec.resolution": "1024x1024"}),
                Some(1024),
            ),
            (
                json!({"ss_base_model_version": "sdxl_base_v1-0"}),
                Some(1024),
            ),
            (json!({"modelspec.resolution": "99999999x1"}), None),
            (json!({"modelspec.resolution": "1024x768"}), None),
            (json!({"format": "pt"}), None),
            (json!([]), None),
        ] {
            assert_eq!(side_in(&metadata), side, "{metadata}");
        }
    }
}
