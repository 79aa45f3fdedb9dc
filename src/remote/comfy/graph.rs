//! Built-in graphs for checkpoints of a ComfyUI, in its API format: text to picture, picture to
//! picture and inpainting, with LoRAs, clip skip and another VAE.

use serde_json::{Map, Value, json};

/// A LoRA as the engine names it.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraNode {
    /// Name of the LoRA, as the server lists it.
    pub name: String,
    /// Weight; 1 is as it was trained.
    pub weight: f64,
}

/// The picture that drawing begins from.
#[derive(Clone, Debug, PartialEq)]
pub struct InitImageNode {
    /// Name of the uploaded picture.
    pub image: String,
    /// 1 ignores it.
    pub strength: f64,
    /// Name of the uploaded mask: white is drawn anew.
    pub mask: Option<String>,
}

/// All that a checkpoint's picture is drawn from, in the engine's own names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CheckpointGraph {
    /// Name of the checkpoint, as the server lists it.
    pub checkpoint: String,
    /// Prompt of the picture.
    pub prompt: String,
    /// Negative prompt; empty for none.
    pub negative: String,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Seed of the initial noise.
    pub seed: u64,
    /// Denoising steps.
    pub steps: u32,
    /// Guidance scale (`cfg`); 1 is none.
    pub guidance: f64,
    /// ComfyUI's name of the sampler, such as `dpmpp_2m`.
    pub sampler: String,
    /// ComfyUI's name of the spacing of noise levels, such as `karras`.
    pub scheduler: String,
    /// Where the text encoder ends, as A1111 counts: 1 is its last layer, 2 the one before.
    pub clip_skip: Option<u32>,
    /// LoRAs, one behind the other.
    pub loras: Vec<LoraNode>,
    /// Name of another VAE, as the server lists it.
    pub vae: Option<String>,
    /// The picture to begin from; none draws from noise alone.
    pub guide: Option<InitImageNode>,
}

/// The graph; its picture is a preview there, which ComfyUI clears away by itself.
pub fn checkpoint_graph(of: &CheckpointGraph) -> Value {
    let mut nodes = Nodes::default();
    let checkpoint = nodes.add(
        "CheckpointLoaderSimple",
        json!({"ckpt_name": of.checkpoint}),
    );
    let (mut model, mut clip) = (json!([checkpoint, 0]), json!([checkpoint, 1]));
    for lora in &of.loras {
        let loader = nodes.add(
            "LoraLoader",
            json!({"lora_name": lora.name, "strength_model": lora.weight, "strength_clip": lora.weight,
                   "model": model, "clip": clip}),
        );
        (model, clip) = (json!([loader, 0]), json!([loader, 1]));
    }
    if let Some(skip) = of.clip_skip {
        let skipped = nodes.add(
            "CLIPSetLastLayer",
            json!({"stop_at_clip_layer": -i64::from(skip), "clip": clip}),
        );
        clip = json!([skipped, 0]);
    }
    let vae = match &of.vae {
        Some(name) => json!([nodes.add("VAELoader", json!({"vae_name": name})), 0]),
        None => json!([checkpoint, 2]),
    };
    let mut encode = |text: &str| {
        let node = nodes.add("CLIPTextEncode", json!({"text": text, "clip": clip}));
        json!([node, 0])
    };
    let (positive, negative) = (encode(&of.prompt), encode(&of.negative));
    let latents = match &of.guide {
        None => nodes.add(
            "EmptyLatentImage",
            json!({"width": of.width, "height": of.height, "batch_size": 1}),
        ),
        Some(guide) => {
            let image = nodes.add("LoadImage", json!({"image": guide.image}));
            let scaled = nodes.add(
                "ImageScale",
                json!({"image": [image, 0], "upscale_method": "lanczos", "width": of.width,
                       "height": of.height, "crop": "disabled"}),
            );
            let encoded = nodes.add("VAEEncode", json!({"pixels": [scaled, 0], "vae": vae}));
            match &guide.mask {
                None => encoded,
                Some(mask) => {
                    let mask = nodes.add("LoadImageMask", json!({"image": mask, "channel": "red"}));
                    nodes.add(
                        "SetLatentNoiseMask",
                        json!({"samples": [encoded, 0], "mask": [mask, 0]}),
                    )
                }
            }
        }
    };
    let denoise = of.guide.as_ref().map_or(1.0, |guide| guide.strength);
    let sampled = nodes.add(
        "KSampler",
        json!({"model": model, "positive": positive, "negative": negative, "latent_image": [latents, 0],
               "seed": of.seed, "steps": of.steps, "cfg": of.guidance, "sampler_name": of.sampler,
               "scheduler": of.scheduler, "denoise": denoise}),
    );
    let decoded = nodes.add("VAEDecode", json!({"samples": [sampled, 0], "vae": vae}));
    nodes.add("PreviewImage", json!({"images": [decoded, 0]}));
    Value::Object(nodes.0)
}

#[derive(Default)]
struct Nodes(Map<String, Value>);

impl Nodes {
    /// Adds a node and returns its id.
    fn add(&mut self, class: &str, inputs: Value) -> String {
        let id = (self.0.len() + 1).to_string();
        self.0
            .insert(id.clone(), json!({"class_type": class, "inputs": inputs}));
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every link leads to a node that is there.
    fn linked(graph: &Value) -> bool {
        let nodes = graph.as_object().unwrap();
        let inputs = nodes
            .values()
            .flat_map(|node| node["inputs"].as_object().unwrap().values());
        let mut links = inputs.filter_map(Value::as_array);
        links.all(|link| nodes.contains_key(link[0].as_str().unwrap()))
    }

    fn classes(graph: &Value) -> Vec<&str> {
        let nodes = graph.as_object().unwrap().values();
        nodes
            .map(|node| node["class_type"].as_str().unwrap())
            .collect()
    }

    #[test]
    fn graphs_are_whole_and_have_what_was_asked_for() {
        let plain = CheckpointGraph {
            checkpoint: "a.safetensors".into(),
            prompt: "a fox".into(),
            width: 512,
            height: 256,
            seed: 7,
            ..CheckpointGraph::default()
        };
        let graph = checkpoint_graph(&plain);
        assert!(linked(&graph));
        assert_eq!(
            classes(&graph),
            [
                "CheckpointLoaderSimple",
                "CLIPTextEncode",
                "CLIPTextEncode",
                "EmptyLatentImage",
                "KSampler",
                "VAEDecode",
                "PreviewImage"
            ]
        );
        let full = CheckpointGraph {
            clip_skip: Some(2),
            vae: Some("v".into()),
            loras: vec![
                LoraNode {
                    name: "l".into(),
                    weight: 0.5,
                },
                LoraNode {
                    name: "m".into(),
                    weight: 1.0,
                },
            ],
            guide: Some(InitImageNode {
                image: "i".into(),
                strength: 0.6,
                mask: Some("m".into()),
            }),
            ..plain
        };
        let graph = checkpoint_graph(&full);
        assert!(linked(&graph), "{graph}");
        for class in [
            "LoraLoader",
            "CLIPSetLastLayer",
            "VAELoader",
            "SetLatentNoiseMask",
        ] {
            assert!(classes(&graph).contains(&class), "{class}");
        }
        let of = |class: &str| {
            let mut nodes = graph.as_object().unwrap().values();
            nodes.find(|node| node["class_type"] == class).unwrap()["inputs"].clone()
        };
        assert_eq!(of("KSampler")["denoise"], 0.6);
        assert_eq!(of("CLIPSetLastLayer")["stop_at_clip_layer"], -2);
    }
}
