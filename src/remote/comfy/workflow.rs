//! The author's own workflow, exported from ComfyUI in API format, and which of its inputs is what.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::RemoteError;
use super::super::error::quoted;

/// An input of a workflow, or its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkflowInput {
    /// Prompt.
    Prompt,
    /// Negative prompt.
    Negative,
    /// Seed.
    Seed,
    /// Denoising steps.
    Steps,
    /// Guidance scale.
    Guidance,
    /// Width of the picture.
    Width,
    /// Height of the picture.
    Height,
    /// Picture to begin from (image to image).
    Init,
    /// Denoising strength of that, 0 to 1.
    Strength,
    /// Mask of inpainting.
    Mask,
    /// First reference picture.
    Reference1,
    /// Second reference picture.
    Reference2,
    /// Third reference picture.
    Reference3,
    /// Fourth reference picture.
    Reference4,
    /// Node whose picture is taken.
    Output,
}

/// An input's name, the titles by which its node is known, and the fields that may hold it.
struct InputRule {
    input: WorkflowInput,
    name: &'static str,
    titles: &'static [&'static str],
    fields: &'static [&'static str],
}

const TEXT: &[&str] = &["text", "prompt", "value", "string", "t5xxl", "text_g"];
const PICTURE: &[&str] = &["image"];

#[rustfmt::skip]
const ROWS: &[InputRule] = &[
    InputRule { input: WorkflowInput::Prompt, name: "prompt", titles: &["prompt", "positive", "positive prompt"], fields: TEXT },
    InputRule { input: WorkflowInput::Negative, name: "negative", titles: &["negative", "negative prompt"], fields: TEXT },
    InputRule { input: WorkflowInput::Seed, name: "seed", titles: &["seed"], fields: &["seed", "noise_seed", "value"] },
    InputRule { input: WorkflowInput::Steps, name: "steps", titles: &["steps"], fields: &["steps", "value"] },
    InputRule { input: WorkflowInput::Guidance, name: "guidance", titles: &["guidance", "guidance scale", "cfg"], fields: &["cfg", "guidance", "value"] },
    InputRule { input: WorkflowInput::Width, name: "width", titles: &["width", "size"], fields: &["width", "value"] },
    InputRule { input: WorkflowInput::Height, name: "height", titles: &["height", "size"], fields: &["height", "value"] },
    InputRule { input: WorkflowInput::Init, name: "init", titles: &["init", "init picture", "init image", "input image"], fields: PICTURE },
    InputRule { input: WorkflowInput::Strength, name: "strength", titles: &["strength", "denoise"], fields: &["denoise", "strength", "value"] },
    InputRule { input: WorkflowInput::Mask, name: "mask", titles: &["mask"], fields: PICTURE },
    InputRule { input: WorkflowInput::Reference1, name: "reference1", titles: &["reference", "reference 1"], fields: PICTURE },
    InputRule { input: WorkflowInput::Reference2, name: "reference2", titles: &["reference 2"], fields: PICTURE },
    InputRule { input: WorkflowInput::Reference3, name: "reference3", titles: &["reference 3"], fields: PICTURE },
    InputRule { input: WorkflowInput::Reference4, name: "reference4", titles: &["reference 4"], fields: PICTURE },
    InputRule { input: WorkflowInput::Output, name: "output", titles: &["output"], fields: &[] },
];

/// Classes of nodes that give pictures out, the likeliest first.
const OUTPUTS: [&str; 3] = ["SaveImage", "PreviewImage", "SaveImageWebsocket"];

impl WorkflowInput {
    fn row(self) -> &'static InputRule {
        let mut rows = ROWS.iter();
        rows.find(|row| row.input == self)
            .expect("every input has a row")
    }

    /// The inputs for reference pictures, in order.
    pub const REFERENCES: [WorkflowInput; 4] = [
        WorkflowInput::Reference1,
        WorkflowInput::Reference2,
        WorkflowInput::Reference3,
        WorkflowInput::Reference4,
    ];
}

impl fmt::Display for WorkflowInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().name)
    }
}

/// Where an input goes: a node's id and a field of it (empty for the output).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// Id of the node in the graph.
    pub node: String,
    /// Name of the node's input.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// `INPUT=NODE.FIELD`, as it is bound by hand; `output=NODE`.
impl FromStr for Binding {
    type Err = String;

    fn from_str(text: &str) -> Result<Binding, String> {
        let (node, field) = text.split_once('.').unwrap_or((text, ""));
        if node.is_empty() {
            return Err(format!(
                "\"{text}\" names no node; give NODE.FIELD such as 6.text"
            ));
        }
        Ok(Binding {
            node: node.to_owned(),
            field: field.to_owned(),
        })
    }
}

/// A graph in API format with its inputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workflow {
    /// The graph in ComfyUI's API format.
    pub graph: Value,
    /// Where each value is put.
    pub inputs: BTreeMap<WorkflowInput, Binding>,
}

/// What a workflow's inputs are set to; pictures by the names under which they were uploaded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WorkflowValues {
    /// Prompt of the picture.
    pub prompt: String,
    /// Negative prompt; empty for none.
    pub negative: String,
    /// Seed of the initial noise.
    pub seed: u64,
    /// Denoising steps.
    pub steps: u32,
    /// Guidance scale.
    pub guidance: f64,
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// The server's name of the picture to begin from, once it was sent there.
    pub init: Option<String>,
    /// Denoising strength, 0 (keeps the picture) to 1.
    pub strength: f64,
    /// The server's name of the mask, once it was sent there.
    pub mask: Option<String>,
    /// The server's names of the reference pictures, once they were sent there.
    pub references: Vec<String>,
}

impl Workflow {
    /// Reads the text of an exported workflow. Inputs are bound by hand (`given`, each
    /// `INPUT=NODE.FIELD`), by the titles of nodes, and prompts, seed, steps and guidance also by
    /// what the one sampler is linked to.
    ///
    /// # Errors
    /// When it is not a workflow in API format, a binding leads nowhere, or no prompt or output is
    /// found.
    pub fn read(text: &str, given: &[String]) -> Result<Workflow, RemoteError> {
        let bad = |sentence: String| RemoteError::Workflow(sentence);
        let text = text.trim_start_matches('\u{feff}');
        let graph: Value = serde_json::from_str(text).map_err(|error| {
            bad(format!(
                "the workflow is not JSON ({error}); export it from ComfyUI again"
            ))
        })?;
        if graph.get("nodes").is_some_and(Value::is_array) {
            return Err(bad("this is a workflow as ComfyUI keeps it for itself; export it there by \"Export (API)\"".to_owned()));
        }
        let nodes = graph.as_object().filter(|nodes| !nodes.is_empty());
        let whole = |node: &Value| {
            node.get("class_type").is_some_and(Value::is_string)
                && node.get("inputs").is_some_and(Value::is_object)
        };
        if !nodes.is_some_and(|nodes| nodes.values().all(whole)) {
            return Err(bad(
                "this is not a workflow of ComfyUI; export one there by \"Export (API)\""
                    .to_owned(),
            ));
        }
        let mut workflow = Workflow {
            graph,
            inputs: BTreeMap::new(),
        };
        for given in given {
            workflow.bind(given)?;
        }
        workflow.bind_by_titles();
        workflow.bind_by_links();
        for needed in [WorkflowInput::Prompt, WorkflowInput::Output] {
            if !workflow.inputs.contains_key(&needed) {
                return Err(bad(format!(
                    "the workflow shows no {needed}: give a node the title \"{needed}\" in ComfyUI, or bind one by --bind {needed}=NODE{}",
                    if needed == WorkflowInput::Output {
                        ""
                    } else {
                        ".FIELD"
                    }
                )));
            }
        }
        Ok(workflow)
    }

    fn bind(&mut self, given: &str) -> Result<(), RemoteError> {
        let bad = |reason: String| Err(RemoteError::Workflow(reason));
        let Some((name, to)) = given.split_once('=') else {
            return bad(format!(
                "\"{given}\" binds nothing; give INPUT=NODE.FIELD such as prompt=6.text"
            ));
        };
        let Some(row) = ROWS.iter().find(|row| row.name == name.trim()) else {
            let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
            return bad(format!(
                "a workflow has no input \"{name}\"; choose {}",
                names.join(", ")
            ));
        };
        let to: Binding = to.trim().parse().map_err(RemoteError::Workflow)?;
        let Some(node) = self.graph.get(&to.node) else {
            return bad(format!(
                "the workflow has no node {}; look at the ids in its file",
                to.node
            ));
        };
        if row.input != WorkflowInput::Output && node["inputs"].get(&to.field).is_none() {
            let fields: Vec<&String> = node["inputs"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, _)| name)
                .collect();
            return bad(format!(
                "node {} has no field \"{}\"; it has {}",
                to.node,
                to.field,
                fields
                    .iter()
                    .map(|f| f.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            ));
        }
        self.inputs.insert(row.input, to);
        Ok(())
    }

    fn nodes(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.graph.as_object().into_iter().flatten()
    }

    fn bind_by_titles(&mut self) {
        for row in ROWS {
            let found = self.nodes().find_map(|(id, node)| {
                let title = node.pointer("/_meta/title")?.as_str()?.to_lowercase();
                let title = title.trim();
                let title = title.strip_prefix("vokenboard").unwrap_or(title);
                let title = title.trim_start_matches([':', ' ']);
                if !row.titles.contains(&title) {
                    return None;
                }
                let field = match row.input {
                    WorkflowInput::Output => String::new(),
                    _ => own_field(node, row.fields)?,
                };
                Some(Binding {
                    node: id.clone(),
                    field,
                })
            });
            if let Some(found) = found {
                self.inputs.entry(row.input).or_insert(found);
            }
        }
    }

    /// What the sampler says by itself, if there is but one.
    fn bind_by_links(&mut self) {
        let sampler = |node: &Value| {
            let has = |name: &str| node["inputs"].get(name).is_some();
            has("positive") && has("latent_image") && (has("seed") || has("noise_seed"))
        };
        let samplers: Vec<String> = self
            .nodes()
            .filter(|(_, node)| sampler(node))
            .map(|(id, _)| id.clone())
            .collect();
        if let [id] = samplers.as_slice() {
            let node = &self.graph[id];
            let mut found = Vec::new();
            for input in [
                WorkflowInput::Seed,
                WorkflowInput::Steps,
                WorkflowInput::Guidance,
            ] {
                if let Some(field) =
                    own_field(node, &input.row().fields[..input.row().fields.len() - 1])
                {
                    found.push((
                        input,
                        Binding {
                            node: id.clone(),
                            field,
                        },
                    ));
                }
            }
            for (input, link) in [
                (WorkflowInput::Prompt, "positive"),
                (WorkflowInput::Negative, "negative"),
            ] {
                if let Some(at) = self.text_behind(&node["inputs"][link]) {
                    found.push((input, at));
                }
            }
            if let Some(size) = self.size_behind(&node["inputs"]["latent_image"]) {
                for (input, field) in [
                    (WorkflowInput::Width, "width"),
                    (WorkflowInput::Height, "height"),
                ] {
                    found.push((
                        input,
                        Binding {
                            node: size.clone(),
                            field: field.to_owned(),
                        },
                    ));
                }
            }
            // A prompt that is also the negative one can't be told apart.
            let of = |wanted| {
                found
                    .iter()
                    .find(|(input, _)| *input == wanted)
                    .map(|(_, at)| at.clone())
            };
            if of(WorkflowInput::Prompt) == of(WorkflowInput::Negative) {
                found.retain(|(input, _)| {
                    !matches!(input, WorkflowInput::Prompt | WorkflowInput::Negative)
                });
            }
            for (input, at) in found {
                self.inputs.entry(input).or_insert(at);
            }
        }
        let outputs = OUTPUTS.iter().find_map(|class| {
            let of = self
                .nodes()
                .filter(|(_, node)| node["class_type"] == *class);
            let of: Vec<&String> = of.map(|(id, _)| id).collect();
            (of.len() == 1).then(|| of[0].clone())
        });
        if let Some(node) = outputs {
            let output = Binding {
                node,
                field: String::new(),
            };
            self.inputs.entry(WorkflowInput::Output).or_insert(output);
        }
    }

    /// The text that a link comes from, through nodes that change conditionings.
    fn text_behind(&self, link: &Value) -> Option<Binding> {
        let mut link = link.clone();
        for _ in 0..16 {
            let id = link.get(0)?.as_str()?.to_owned();
            let node = self.graph.get(&id)?;
            if let Some(field) = own_field(node, TEXT) {
                return Some(Binding { node: id, field });
            }
            let inputs = node["inputs"].as_object()?;
            let next = ["text", "conditioning", "positive", "value", "prompt"];
            link = next.iter().find_map(|name| inputs.get(*name)).cloned()?;
        }
        None
    }

    /// The node of empty latents that a link comes from.
    fn size_behind(&self, link: &Value) -> Option<String> {
        let id = link.get(0)?.as_str()?;
        let inputs = &self.graph.get(id)?["inputs"];
        let both = inputs.get("width")?.is_number() && inputs.get("height")?.is_number();
        both.then(|| id.to_owned())
    }

    /// Whether this value is bound to an input.
    pub fn takes(&self, input: WorkflowInput) -> bool {
        self.inputs.contains_key(&input)
    }

    /// The node whose picture is the result.
    pub fn output(&self) -> &str {
        self.inputs
            .get(&WorkflowInput::Output)
            .map_or("", |at| &at.node)
    }

    /// The number that the workflow itself has in an input.
    pub fn number(&self, input: WorkflowInput) -> Option<f64> {
        let at = self.inputs.get(&input)?;
        self.graph[&at.node]["inputs"][&at.field].as_f64()
    }

    /// Settings that no input takes, so that the workflow's own stay.
    pub fn unbound(&self) -> Vec<WorkflowInput> {
        let settings = [
            WorkflowInput::Negative,
            WorkflowInput::Seed,
            WorkflowInput::Steps,
            WorkflowInput::Guidance,
            WorkflowInput::Width,
            WorkflowInput::Height,
        ];
        let unbound = settings.into_iter().filter(|input| !self.takes(*input));
        unbound.collect()
    }

    /// The size of pictures that the workflow itself asks for, in pixels.
    pub fn size(&self) -> Option<(u32, u32)> {
        let number = |input| {
            let at: &Binding = self.inputs.get(&input)?;
            u32::try_from(self.graph[&at.node]["inputs"][&at.field].as_u64()?).ok()
        };
        Some((
            number(WorkflowInput::Width)?,
            number(WorkflowInput::Height)?,
        ))
    }

    /// The graph with `values` in its inputs; what is not bound stays as it is.
    pub fn fill(&self, values: &WorkflowValues) -> Value {
        let mut graph = self.graph.clone();
        let mut set = |input: WorkflowInput, value: Value| {
            if let Some(at) = self.inputs.get(&input) {
                graph[&at.node]["inputs"][&at.field] = value;
            }
        };
        set(WorkflowInput::Prompt, json!(values.prompt));
        set(WorkflowInput::Negative, json!(values.negative));
        set(WorkflowInput::Seed, json!(values.seed));
        set(WorkflowInput::Steps, json!(values.steps));
        set(WorkflowInput::Guidance, json!(values.guidance));
        set(WorkflowInput::Width, json!(values.width));
        set(WorkflowInput::Height, json!(values.height));
        if let Some(init) = &values.init {
            set(WorkflowInput::Init, json!(init));
            set(WorkflowInput::Strength, json!(values.strength));
        }
        if let Some(mask) = &values.mask {
            set(WorkflowInput::Mask, json!(mask));
        }
        // With fewer pictures than inputs they come again, so that the workflow's own pictures do not
        // mix in; without any these stay.
        let names = values.references.iter().cycle();
        for (input, name) in WorkflowInput::REFERENCES.into_iter().zip(names) {
            set(input, json!(name));
        }
        graph
    }

    /// What is bound, for people: `prompt: 6.text, seed: 3.seed`.
    pub fn describe(&self) -> String {
        let all = self
            .inputs
            .iter()
            .map(|(input, at)| match at.field.as_str() {
                "" => format!("{input}: {}", quoted(&at.node)),
                field => format!("{input}: {}.{}", quoted(&at.node), quoted(field)),
            });
        all.collect::<Vec<_>>().join(", ")
    }
}

/// The first of `fields` that holds a value of its own and no link.
fn own_field(node: &Value, fields: &[&str]) -> Option<String> {
    let inputs = node["inputs"].as_object()?;
    let own = |name: &&&str| inputs.get(**name).is_some_and(|value| !value.is_array());
    fields.iter().find(own).map(|name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &str = r#"{
        "3": {"class_type": "KSampler", "inputs": {"seed": 5, "steps": 20, "cfg": 8, "sampler_name": "euler",
              "scheduler": "normal", "denoise": 1, "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}},
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "a.safetensors"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 512, "height": 768, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "x", "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "y", "clip": ["4", 1]}},
        "8": {"class_type": "VAEDecode", "inputs": {"samples": ["3", 0], "vae": ["4", 2]}},
        "9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "C", "images": ["8", 0]}}}"#;

    #[test]
    fn the_usual_workflow_needs_no_hand() {
        let workflow = Workflow::read(PLAIN, &[]).unwrap();
        assert_eq!(
            workflow.describe(),
            "prompt: 6.text, negative: 7.text, seed: 3.seed, steps: 3.steps, guidance: 3.cfg, width: 5.width, height: 5.height, output: 9"
        );
        assert_eq!(workflow.size(), Some((512, 768)));
        assert_eq!(workflow.number(WorkflowInput::Guidance), Some(8.0));
        assert_eq!(workflow.unbound(), []);
        let filled = workflow.fill(&WorkflowValues {
            prompt: "a fox".into(),
            seed: 9,
            width: 640,
            ..WorkflowValues::default()
        });
        assert_eq!(filled["6"]["inputs"]["text"], "a fox");
        assert_eq!(filled["3"]["inputs"]["seed"], 9);
        assert_eq!(filled["5"]["inputs"]["width"], 640);
        assert_eq!(filled["3"]["inputs"]["denoise"], 1);
        let again: Workflow =
            serde_json::from_str(&serde_json::to_string(&workflow).unwrap()).unwrap();
        assert_eq!(again, workflow);
    }

    #[test]
    fn titles_and_hands_go_before_links() {
        let titled = PLAIN.replace(
            r#""class_type": "CLIPTextEncode", "inputs": {"text": "y""#,
            r#""_meta": {"title": "Vokenboard: Prompt"}, "class_type": "CLIPTextEncode", "inputs": {"text": "y""#,
        );
        let workflow = Workflow::read(&titled, &["seed=4.ckpt_name".to_owned()]).unwrap();
        assert_eq!(workflow.inputs[&WorkflowInput::Prompt].node, "7");
        assert_eq!(workflow.inputs[&WorkflowInput::Seed].node, "4");
    }

    #[test]
    fn what_is_no_workflow_is_refused_with_a_remedy() {
        let said = |text: &str, given: &[&str]| {
            let given: Vec<String> = given.iter().map(|text| (*text).to_owned()).collect();
            Workflow::read(text, &given).unwrap_err().to_string()
        };
        assert!(said("{", &[]).contains("not JSON"));
        assert!(said(r#"{"nodes": [], "links": []}"#, &[]).contains("Export (API)"));
        assert!(said(r#"{"a": 1}"#, &[]).contains("Export (API)"));
        assert!(said("{}", &[]).contains("Export (API)"));
        assert!(said(PLAIN, &["prompt=99.text"]).contains("no node 99"));
        assert!(said(PLAIN, &["prompt=6.txt"]).contains("no field"));
        assert!(said(PLAIN, &["colour=6.text"]).contains("choose prompt, negative"));
        let none = PLAIN.replace("SaveImage", "Nothing");
        assert!(said(&none, &[]).contains("--bind output=NODE"));
    }
}
