//! diffusers' `scheduler_config.json`.

use super::keys::Keys;
use super::{Method, SchedulerKind};
use crate::diffusion::Prediction;
use crate::nn::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Keys of one class or another of diffusers, which files carry along from class to class and a
/// class that does not know them passes over.
const OF_OTHER_CLASSES: [&str; 22] = [
    "algorithm_type",
    "base_image_seq_len",
    "base_shift",
    "disable_corrector",
    "flow_shift",
    "interpolation_type",
    "invert_sigmas",
    "lambda_min_clipped",
    "max_image_seq_len",
    "max_shift",
    "noise_sampler_seed",
    "predict_x0",
    "shift",
    "skip_prk_steps",
    "solver_p",
    "steps_offset",
    "timestep_type",
    "use_beta_sigmas",
    "use_dynamic_shifting",
    "use_exponential_sigmas",
    "use_flow_sigmas",
    "use_lu_lambdas",
];

/// The configuration of a model's scheduler: its `scheduler_config.json`. What it leaves out takes the default of the class
/// that runs, which need not be the class in the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>", into = "Map<String, Value>")]
pub struct SchedulerConfig {
    keys: Map<String, Value>,
    next_listed: bool,
}

impl TryFrom<Map<String, Value>> for SchedulerConfig {
    type Error = String;

    fn try_from(mut keys: Map<String, Value>) -> std::result::Result<Self, String> {
        // diffusers takes null for a key that was left out.
        keys.retain(|_, value| !value.is_null());
        let config = Self {
            keys,
            next_listed: false,
        };
        config.as_configured()?;
        Ok(config)
    }
}

impl From<SchedulerConfig> for Map<String, Value> {
    fn from(config: SchedulerConfig) -> Self {
        config.keys
    }
}

impl SchedulerConfig {
    /// The class that the file names.
    pub fn class_name(&self) -> &str {
        let name = self.keys.get("_class_name").and_then(Value::as_str);
        name.unwrap_or("PNDMScheduler")
    }

    /// The scheduler that the file names.
    ///
    /// # Errors
    /// When it is one that is not computed here.
    pub fn kind(&self) -> Result<SchedulerKind> {
        let name = self.class_name();
        let mut all = SchedulerKind::ALL.iter();
        match all.find(|kind| kind.method().class == name && !kind.method().karras) {
            Some(kind) => Ok(*kind),
            None => candle_core::bail!(
                "the model's scheduler is {name}, which is not computed here; choose another scheduler"
            ),
        }
    }

    /// The file with `key` at another value.
    ///
    /// # Errors
    /// When that can't be its value.
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Result<Self> {
        self.keys.insert(key.to_owned(), value.into());
        match Self::try_from(self.keys) {
            Ok(config) => Ok(Self {
                next_listed: self.next_listed,
                ..config
            }),
            Err(why) => candle_core::bail!("{why}"),
        }
    }

    /// As models of our own and the published MiniGPT-5 are sampled: what the file leaves out is
    /// as Stable Diffusion's own have it, whichever class runs, and steps lead to the next of
    /// their timesteps.
    pub fn with_own_defaults(mut self) -> Self {
        let own = json!({
            "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
            "timestep_spacing": "leading", "set_alpha_to_one": false, "clip_sample": false,
            "skip_prk_steps": true,
        });
        if let Value::Object(own) = own {
            for (key, value) in own {
                self.keys.entry(key).or_insert(value);
            }
        }
        self.next_listed = true;
        self
    }

    /// What the UNet was trained to predict.
    pub fn prediction(&self) -> Prediction {
        let keys = self.as_configured();
        keys.map_or_else(|_| Prediction::default(), |keys| keys.prediction_type)
    }

    /// Every key as the file's own class has it, or one much like it.
    pub(in crate::diffusion) fn as_configured(&self) -> std::result::Result<Keys, String> {
        let method = self.kind().unwrap_or(SchedulerKind::Pndm).method();
        self.read(method)
    }

    fn read(&self, method: &Method) -> std::result::Result<Keys, String> {
        let mut keys = Keys::default();
        (method.defaults)(&mut keys);
        let mut all = match serde_json::to_value(keys) {
            Ok(Value::Object(all)) => all,
            other => return Err(format!("{other:?} are no keys")),
        };
        all.extend(self.keys.clone());
        let mut keys: Keys =
            serde_json::from_value(all.into()).map_err(|error| error.to_string())?;
        keys.next_listed = self.next_listed;
        keys.use_karras_sigmas |= method.karras;
        Ok(keys)
    }

    /// Every key at the value with which `kind` runs.
    ///
    /// # Errors
    /// A key that changes the picture in a way that is not computed.
    pub(super) fn keys(&self, kind: SchedulerKind) -> Result<Keys> {
        let method = kind.method();
        for (key, only) in method.only {
            let Some(value) = self.keys.get(*key) else {
                continue;
            };
            let known: Vec<Value> =
                serde_json::from_str(only).map_err(|e| candle_core::Error::Msg(e.to_string()))?;
            if !known.contains(value) {
                candle_core::bail!(
                    "the scheduler's {key} is {value}, which {} does not compute here; choose another scheduler",
                    method.name
                );
            }
        }
        if let Some((key, value)) = self.unknown(method) {
            candle_core::bail!(
                "the scheduler's {key} is {value}, which is not known here; choose another scheduler"
            );
        }
        self.read(method).map_err(candle_core::Error::Msg)
    }

    /// A key that says something and is none that we know, in a file for the class of `method`;
    /// other classes pass over what they don't know, in diffusers as here.
    fn unknown(&self, method: &Method) -> Option<(&String, &Value)> {
        if self.class_name() != method.class {
            return None;
        }
        let ours = serde_json::to_value(Keys::default()).unwrap_or_default();
        let known = |key: &str| {
            key.starts_with('_')
                || ours.get(key).is_some()
                || method.only.iter().any(|(only, _)| *only == key)
                || OF_OTHER_CLASSES.contains(&key)
        };
        let says = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
        self.keys
            .iter()
            .find(|(key, value)| says(value) && !known(key))
    }

    /// What keeps the scheduler that the file names from being computed, in a sentence.
    pub fn trouble(&self) -> Option<String> {
        let kind = self.kind();
        let keys = kind.and_then(|kind| self.keys(kind));
        // Without the backtrace that candle appends when one is asked for.
        let first = |error: candle_core::Error| error.to_string().lines().next().map(str::to_owned);
        keys.err().and_then(first)
    }
}
