//! LoRA files (arXiv 2106.09685) of every usual kind of names: kohya's, with diffusers' or LDM's names
//! of the modules, diffusers' old ones, PEFT's, OneTrainer's, LyCORIS' and those that ComfyUI saves.

use super::ldm;
use super::patched::Delta;
use crate::diffusion::error::read_json;
use crate::diffusion::{DiffusionError, LoraBase, StableDiffusionFamily, UnetConfig};
use crate::weights::Checkpoint;
use candle_core::{DType, Device};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

/// A network that LoRAs can change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Network {
    /// The UNet.
    Unet,
    /// Text encoder 0 or 1.
    Text(usize),
}

/// The weights of a model that LoRAs can change.
pub(super) struct Targets {
    /// By each spelling of the module's name, without dots.
    modules: HashMap<String, (Network, String)>,
    /// Shapes in the file, by network and name of the weight.
    shapes: HashMap<(Network, String), Vec<usize>>,
    family: StableDiffusionFamily,
    /// Layers of each text encoder: later ones of a file change nothing.
    layers: Vec<usize>,
}

/// The suffixes of the two matrices and of the number by which they are scaled.
const DOWN: [&str; 7] = [
    "_lora.down.weight",
    ".lora.down.weight",
    ".lora_down.weight",
    ".lora_A.default.weight",
    ".lora_A.weight",
    ".lora_linear_layer.down.weight",
    ".lora_a.weight",
];
const UP: [&str; 7] = [
    "_lora.up.weight",
    ".lora.up.weight",
    ".lora_up.weight",
    ".lora_B.default.weight",
    ".lora_B.weight",
    ".lora_linear_layer.up.weight",
    ".lora_b.weight",
];
const ALPHA: [&str; 2] = ["_lora.alpha", ".alpha"];

/// What other kinds of files have in their names, and what they are called.
const OTHERS: [(&str, &str); 16] = [
    ("dora_scale", "a DoRA"),
    ("lora_magnitude_vector", "a DoRA"),
    ("hada_w", "a LyCORIS LoHa"),
    ("lokr_", "a LyCORIS LoKr"),
    ("oft_", "an OFT"),
    ("lora_mid", "a LoCon with a Tucker core"),
    ("glora", "a GLoRA"),
    (".a1.weight", "a GLoRA"),
    ("on_input", "a LyCORIS IA3"),
    (".w_norm", "a LyCORIS with norms that were trained"),
    (".b_norm", "a LyCORIS with norms that were trained"),
    (
        ".scalar",
        "a LyCORIS whose modules have scales of their own",
    ),
    ("bundle_emb", "a LoRA with an embedding bundled into it"),
    (".set_weight", "a file of whole weights"),
    (".diff_b", "a file of whole differences"),
    (".diff", "a file of whole differences"),
];

/// What newer files of diffusers' say of their alphas in the header, and PEFT's in a file beside them.
#[derive(Default)]
struct AlphaMetadata(Map<String, Value>);

/// What PEFT writes beside its file.
const ADAPTER: &str = "adapter_config.json";

impl AlphaMetadata {
    /// # Errors
    /// A file beside it that can't be read, or says that it is another kind of adapter.
    fn of(file: &Checkpoint, path: &Path) -> Result<Self, DiffusionError> {
        let text = file.metadata().remove("lora_adapter_metadata");
        let keys = text.and_then(|text| serde_json::from_str(&text).ok());
        let mut alphas: Map<String, Value> = keys.unwrap_or_default();
        let beside = path.with_file_name(ADAPTER);
        let peft = file.names().any(|name| name.starts_with("base_model."));
        if peft && beside.is_file() {
            let config: Map<String, Value> = read_json(&beside)?;
            let kind = config.get("peft_type").and_then(Value::as_str);
            if let Some(kind) = kind.filter(|kind| *kind != "LORA") {
                let why = format!("is PEFT's {kind}, which is not a LoRA");
                return Err(DiffusionError::unfit(path, why, USE_PLAIN));
            }
            let keys = config.into_iter();
            alphas.extend(keys.map(|(key, value)| (format!("base_model.{key}"), value)));
        }
        Ok(Self(alphas))
    }

    /// By what the module `base` is scaled: alpha by rank (or its root); 1 where nothing is said.
    fn scale(&self, base: &str, rank: usize) -> f64 {
        let Some((network, module)) = base.split_once('.') else {
            return 1.0;
        };
        let value_of = |name: &str| self.0.get(&format!("{network}.{name}"));
        let own = value_of("alpha_pattern").and_then(Value::as_object);
        let own = own.and_then(|own| {
            let ends = |name: &str| module == name || module.ends_with(&format!(".{name}"));
            let found = own.iter().find(|(name, _)| ends(name));
            found.and_then(|(_, alpha)| alpha.as_f64())
        });
        let Some(alpha) = own.or_else(|| value_of("lora_alpha").and_then(Value::as_f64)) else {
            return 1.0;
        };
        let root = value_of("use_rslora").and_then(Value::as_bool) == Some(true);
        alpha
            / if root {
                (rank as f64).sqrt()
            } else {
                rank as f64
            }
    }
}

const USE_PLAIN: &str = "use a plain LoRA (linear or convolution)";

/// One module of a file.
#[derive(Default)]
struct Module {
    down: Option<String>,
    up: Option<String>,
    alpha: Option<String>,
}

fn flat(name: &str) -> String {
    name.replace('.', "_")
}

impl Targets {
    /// The weights of these shapes: the UNet's, and those of each text encoder with its number of
    /// layers, under diffusers' names.
    pub(super) fn new(
        family: StableDiffusionFamily,
        config: &UnetConfig,
        unet: &BTreeMap<String, Vec<usize>>,
        texts: &[(&BTreeMap<String, Vec<usize>>, usize)],
    ) -> Self {
        let mut targets = Self {
            modules: HashMap::new(),
            shapes: HashMap::new(),
            family,
            layers: texts.iter().map(|(_, layers)| *layers).collect(),
        };
        for (name, module) in modules(unet) {
            let mut spellings = vec![module.to_string()];
            let attention = [
                (".to_q", "to_q"),
                (".to_k", "to_k"),
                (".to_v", "to_v"),
                (".to_out.0", "to_out"),
            ];
            for (end, short) in attention {
                if let Some(own) = module.strip_suffix(end) {
                    spellings.push(format!("{own}.processor.{short}"));
                }
            }
            for spelling in &spellings {
                for prefix in [
                    "",
                    "unet.",
                    "lora_unet.",
                    "lycoris.",
                    "lycoris_unet.",
                    "unet.base_model.model.",
                    "base_model.model.",
                ] {
                    targets.add(&format!("{prefix}{spelling}"), Network::Unet, name);
                }
            }
            if let Some(ldm) = ldm::unet(name, config) {
                let module = ldm.trim_end_matches(".weight");
                for prefix in [
                    "lora_unet.",
                    "lycoris_unet.",
                    "unet.",
                    "diffusion_model.",
                    "model.diffusion_model.",
                ] {
                    targets.add(&format!("{prefix}{module}"), Network::Unet, name);
                }
            }
            targets.shape(Network::Unet, name, unet);
        }
        for (i, (text, _)) in texts.iter().enumerate() {
            for (name, module) in modules(text) {
                let prefixes: &[&str] = match i {
                    0 => &[
                        "lora_te.",
                        "lora_te1.",
                        "text_encoder.",
                        "lycoris_text_encoder.",
                        "clip_l.",
                        "lora_clip_l.",
                        "text_encoders.clip_l.transformer.",
                        "text_encoders.clip_h.transformer.",
                    ],
                    _ => &[
                        "lora_te2.",
                        "text_encoder_2.",
                        "lycoris_text_encoder_2.",
                        "clip_g.",
                        "lora_clip_g.",
                        "text_encoders.clip_g.transformer.",
                    ],
                };
                let bare = module.strip_prefix("text_model.").unwrap_or(module);
                let old = [
                    ("q_proj", "to_q"),
                    ("k_proj", "to_k"),
                    ("v_proj", "to_v"),
                    ("out_proj", "to_out"),
                ]
                .iter()
                .fold(module.to_string(), |name, (new, old)| {
                    name.replace(new, old)
                });
                for spelling in [module, bare, &old] {
                    for prefix in prefixes {
                        targets.add(&format!("{prefix}{spelling}"), Network::Text(i), name);
                    }
                }
                targets.shape(Network::Text(i), name, text);
            }
        }
        targets
    }

    fn add(&mut self, spelling: &str, network: Network, name: &str) {
        self.modules
            .insert(flat(spelling), (network, name.to_string()));
    }

    fn shape(&mut self, network: Network, name: &str, shapes: &BTreeMap<String, Vec<usize>>) {
        if let Some(shape) = shapes.get(name) {
            self.shapes
                .insert((network, name.to_string()), shape.clone());
        }
    }

    /// What the LoRA at `path` adds at this weight, for each weight of the model.
    ///
    /// # Errors
    /// A file that cannot be read, is another kind of file or belongs to another family.
    pub(super) fn deltas(
        &self,
        path: &Path,
        weight: f64,
    ) -> Result<Vec<(Network, String, Delta)>, DiffusionError> {
        let file = Arc::new(Checkpoint::open(path).map_err(DiffusionError::Checkpoint)?);
        let alphas = AlphaMetadata::of(&file, path)?;
        let mut deltas = Vec::new();
        for (base, module) in self.read(path, &file)? {
            let (Some(down), Some(up)) = (module.down, module.up) else {
                let why = format!("has only one of the two matrices of {base}");
                return Err(DiffusionError::unfit(path, why, "get the file again"));
            };
            let Some((network, name)) = self.modules.get(&flat(&base)) else {
                if self.beyond(&base) {
                    continue;
                }
                return Err(self.foreign(path, &base, &file, &down));
            };
            let Some(rank) = self.rank(&file, *network, name, &down, &up) else {
                return Err(self.foreign(path, &base, &file, &down));
            };
            let scale = match &module.alpha {
                Some(alpha) => {
                    let alpha = file
                        .tensor(alpha, DType::F64, &Device::Cpu)
                        .map_err(DiffusionError::Checkpoint)?;
                    alpha.flatten_all()?.get(0)?.to_scalar::<f64>()? / rank as f64
                }
                None => alphas.scale(&base, rank),
            };
            let delta = Delta {
                file: file.clone(),
                up,
                down,
                scale: weight * scale,
            };
            deltas.push((*network, name.clone(), delta));
        }
        Ok(deltas)
    }

    /// The modules of a file.
    fn read(
        &self,
        path: &Path,
        file: &Checkpoint,
    ) -> Result<BTreeMap<String, Module>, DiffusionError> {
        let mut modules: BTreeMap<String, Module> = BTreeMap::new();
        for name in file.names() {
            let base = |ends: &[&str]| {
                let base = ends.iter().find_map(|end| name.strip_suffix(end));
                base.map(str::to_string)
            };
            let slot = if let Some(base) = base(&DOWN) {
                &mut modules.entry(base).or_default().down
            } else if let Some(base) = base(&UP) {
                &mut modules.entry(base).or_default().up
            } else if let Some(base) = base(&ALPHA) {
                &mut modules.entry(base).or_default().alpha
            } else {
                let known = OTHERS.iter().find(|(part, _)| name.contains(part));
                let what = known.map_or_else(
                    || format!("has a tensor {name} that no LoRA has"),
                    |(_, what)| format!("is {what}, which is not a LoRA"),
                );
                return Err(DiffusionError::unfit(path, what, USE_PLAIN));
            };
            *slot = Some(name.to_string());
        }
        // Kinds that have LoRA's names beside their own.
        modules.retain(|_, module| module.down.is_some() || module.up.is_some());
        if modules.is_empty() {
            let what = "has no LoRA in it";
            return Err(DiffusionError::unfit(path, what, "name a LoRA file"));
        }
        Ok(modules)
    }

    /// Whether the module belongs to a layer that this model's text encoder leaves out.
    fn beyond(&self, base: &str) -> bool {
        let base = flat(base);
        let Some((text, rest)) = base.split_once("encoder_layers_") else {
            return false;
        };
        let encoder = usize::from(text.contains("te2") || text.contains("encoder_2"));
        let layer = rest.split('_').next().and_then(|n| n.parse::<usize>().ok());
        match (layer, self.layers.get(encoder)) {
            (Some(layer), Some(&layers)) => {
                self.family == StableDiffusionFamily::Sd2 && layer == layers
            }
            _ => false,
        }
    }

    /// The rank of a module whose matrices fit the weight.
    fn rank(
        &self,
        file: &Checkpoint,
        network: Network,
        name: &str,
        down: &str,
        up: &str,
    ) -> Option<usize> {
        let target = self.shapes.get(&(network, name.to_string()))?;
        let (down, up) = (&file.info(down)?.shape, &file.info(up)?.shape);
        let (&rank, &out) = (down.first()?, up.first()?);
        let rest = |shape: &[usize]| shape[1..].iter().product::<usize>();
        let fits = rank > 0
            && rest(up) == rank
            && Some(&out) == target.first()
            && rest(down) == rest(target);
        fits.then_some(rank)
    }

    /// The error for a module that this model doesn't have.
    fn foreign(&self, path: &Path, base: &str, file: &Checkpoint, down: &str) -> DiffusionError {
        let ours = self.family.label();
        let attention = file.names().find(|name| {
            flat(name).contains("attn2_to_k") && DOWN.iter().any(|end| name.ends_with(end))
        });
        let width = attention.and_then(|name| file.info(name)?.shape.get(1).copied());
        let theirs = width.and_then(StableDiffusionFamily::of_width);
        let shapes = file
            .names()
            .filter_map(|name| Some((name.to_string(), file.info(name)?.shape.clone())));
        let other = LoraBase::detect(&shapes.collect());
        let why = match (theirs.filter(|theirs| *theirs != self.family), other) {
            (_, Some(other)) => format!("is {} LoRA, and the model is {ours}", other.called),
            (Some(theirs), _) => {
                format!("is a LoRA for {}, and the model is {ours}", theirs.label())
            }
            (None, None) => {
                let shape = file.info(down).map(|info| info.shape.clone());
                format!(
                    "is not a LoRA for this model, whose modules don't fit its {base} {:?}",
                    shape.unwrap_or_default()
                )
            }
        };
        DiffusionError::unfit(path, why, &format!("use one made for {ours}"))
    }
}

/// Matrices and kernels among `shapes`, each with the name of its module.
fn modules(shapes: &BTreeMap<String, Vec<usize>>) -> impl Iterator<Item = (&str, &str)> {
    shapes.iter().filter_map(|(name, shape)| {
        let module = name.strip_suffix(".weight")?;
        (shape.len() > 1).then_some((name.as_str(), module))
    })
}

#[cfg(test)]
mod tests;
