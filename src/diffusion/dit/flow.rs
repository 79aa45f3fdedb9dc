//! diffusers' `FlowMatchEulerDiscreteScheduler`: Euler's method along straight paths from noise to
//! pictures.

use crate::diffusion::DiffusionError;
use serde::Deserialize;
use serde_json::{Map, Value};

/// How much more noise larger pictures begin with is spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Shift {
    #[default]
    Exponential,
    Linear,
}

/// The keys that we compute, with diffusers' defaults.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
struct Keys {
    num_train_timesteps: usize,
    shift: f64,
    use_dynamic_shifting: bool,
    base_shift: f64,
    max_shift: f64,
    base_image_seq_len: usize,
    max_image_seq_len: usize,
    shift_terminal: Option<f64>,
    time_shift_type: Shift,
    #[serde(flatten)]
    others: Map<String, Value>,
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            num_train_timesteps: 1000,
            shift: 1.0,
            use_dynamic_shifting: false,
            base_shift: 0.5,
            max_shift: 1.15,
            base_image_seq_len: 256,
            max_image_seq_len: 4096,
            shift_terminal: None,
            time_shift_type: Shift::default(),
            others: Map::new(),
        }
    }
}

/// The configuration of a flow model's scheduler: its `scheduler_config.json`.
#[derive(Clone, Debug)]
pub struct FlowConfig(Keys);

/// The class that this computes.
const CLASS: &str = "FlowMatchEulerDiscreteScheduler";

impl FlowConfig {
    /// Reads the file's keys.
    ///
    /// # Errors
    /// Another class, a key that can't be its value, or one that changes the picture and is not
    /// computed; the message names it.
    pub fn new(mut json: Map<String, Value>) -> Result<Self, String> {
        let class = json.get("_class_name").and_then(Value::as_str);
        if let Some(class) = class.filter(|class| *class != CLASS) {
            return Err(format!(
                "the scheduler {class} is not computed for this kind of model"
            ));
        }
        // diffusers takes null for a key that was left out.
        json.retain(|key, value| !value.is_null() && !key.starts_with('_'));
        let keys: Keys = serde_json::from_value(json.into()).map_err(|e| e.to_string())?;
        let says = |value: &Value| *value != Value::Bool(false);
        if let Some((key, value)) = keys.others.iter().find(|(_, value)| says(value)) {
            return Err(format!(
                "the scheduler's {key} is {value}, which is not computed"
            ));
        }
        let positive = |value: f64| value.is_finite() && value > 0.0;
        if !positive(keys.shift)
            || keys.num_train_timesteps == 0
            || keys.max_image_seq_len <= keys.base_image_seq_len
            || keys
                .shift_terminal
                .is_some_and(|end| !(0.0..1.0).contains(&end))
        {
            return Err("the scheduler's shift or lengths are out of range".to_owned());
        }
        Ok(Self(keys))
    }

    /// The noise levels of `steps` steps and the last one's end, for a picture of so many tokens.
    ///
    /// # Errors
    /// No steps, or more than the timesteps of training.
    pub fn sigmas(&self, steps: usize, tokens: usize) -> Result<Vec<f64>, DiffusionError> {
        let keys = &self.0;
        if steps == 0 || steps > keys.num_train_timesteps {
            return Err(DiffusionError::Settings(
                format!(
                    "{steps} steps can't be taken; choose 1 to {}",
                    keys.num_train_timesteps
                )
                .into(),
            ));
        }
        let even = (0..steps).map(|i| {
            let least = 1.0 / steps as f64;
            match steps {
                1 => 1.0,
                _ => 1.0 - (1.0 - least) * i as f64 / (steps - 1) as f64,
            }
        });
        let mut sigmas: Vec<f64> = even.map(|sigma| self.shifted(sigma, tokens)).collect();
        if let (Some(end), Some(&last)) = (keys.shift_terminal.filter(|e| *e > 0.0), sigmas.last())
        {
            let scale = (1.0 - last) / (1.0 - end);
            for sigma in &mut sigmas {
                *sigma = 1.0 - (1.0 - *sigma) / scale;
            }
        }
        sigmas.push(0.0);
        Ok(sigmas.into_iter().map(|s| f64::from(s as f32)).collect())
    }

    /// The timestep of a noise level, as files of training count.
    pub fn timestep(&self, sigma: f64) -> f64 {
        sigma * self.0.num_train_timesteps as f64
    }

    fn shifted(&self, sigma: f64, tokens: usize) -> f64 {
        let keys = &self.0;
        if !keys.use_dynamic_shifting {
            return keys.shift * sigma / (1.0 + (keys.shift - 1.0) * sigma);
        }
        let lengths = (keys.max_image_seq_len - keys.base_image_seq_len) as f64;
        let slope = (keys.max_shift - keys.base_shift) / lengths;
        let base = keys.base_shift - slope * keys.base_image_seq_len as f64;
        let mu = tokens as f64 * slope + base;
        let by = match keys.time_shift_type {
            Shift::Exponential => mu.exp(),
            Shift::Linear => mu,
        };
        by / (by + (1.0 / sigma - 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(said: Value) -> Result<FlowConfig, String> {
        FlowConfig::new(serde_json::from_value(said).unwrap())
    }

    #[test]
    fn noise_levels_are_diffusers() {
        let close = |said: Value, steps, tokens, want: &[f64]| {
            let got = config(said).unwrap().sigmas(steps, tokens).unwrap();
            assert_eq!(got.len(), want.len());
            for (got, want) in got.iter().zip(want) {
                assert!((got - want).abs() < 1e-6, "{got} {want}");
            }
        };
        close(json!({}), 4, 100, &[1.0, 0.75, 0.5, 0.25, 0.0]);
        // As diffusers' scheduler says for 4096 tokens: mu is 1.15.
        let dynamic = json!({"use_dynamic_shifting": true, "shift": 3.0});
        close(dynamic, 2, 4096, &[1.0, 0.759_511, 0.0]);
        close(json!({"shift": 3.0}), 2, 9, &[1.0, 0.75, 0.0]);
        let ends = json!({"shift_terminal": 0.1});
        close(ends, 3, 9, &[1.0, 0.55, 0.1, 0.0]);
        assert_eq!(config(json!({})).unwrap().sigmas(1, 9).unwrap(), [1.0, 0.0]);
    }

    #[test]
    fn what_is_not_computed_is_named() {
        let why = |said| config(said).unwrap_err();
        assert!(why(json!({"use_karras_sigmas": true})).contains("use_karras_sigmas"));
        assert!(why(json!({"stochastic_sampling": true})).contains("stochastic_sampling"));
        assert!(why(json!({"_class_name": "EulerDiscreteScheduler"})).contains("Euler"));
        assert!(why(json!({"shift": 0.0})).contains("out of range"));
        assert!(config(json!({"invert_sigmas": false, "_diffusers_version": "x"})).is_ok());
        assert!(config(json!({})).unwrap().sigmas(0, 9).is_err());
    }
}
