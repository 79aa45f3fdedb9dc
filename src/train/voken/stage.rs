//! The two stages: what learns how fast, and which rows of the tables are learned.

use crate::nn::Result;
use candle_core::{Tensor, Var, backprop::GradStore};

/// How the names of the mapper's parameters begin.
pub(super) const MAPPER: [&str; 3] = ["fc.", "llm_to_t2i_mapping.", "t2i_decoder_prompt"];

/// How the names of the parameters begin by which the stage head reads words.
pub(super) const OF_WORDS: &str = "stage_head.mentions.";

/// A stage of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VokenStage {
    /// Single pictures with captions: the vokens' rows, the perceptron, the mapper and its
    /// decoder sequence are learned.
    Align,
    /// Interleaved stories: adapters, the vokens' rows and the mapper are learned.
    Story,
}

impl VokenStage {
    /// What its losses are called; a published model has no stage.
    pub(super) const LOSSES: &[&str] = &["text", "image", "caption", "stage"];

    /// What the base learning rate is multiplied by for a parameter, named as in the
    /// reference's checkpoints: new parts learn faster while they are aligned.
    pub fn rate_factor(self, name: &str) -> f64 {
        match self {
            VokenStage::Align if MAPPER.iter().any(|part| name.starts_with(part)) => 10.0,
            VokenStage::Align | VokenStage::Story => 1.0,
        }
    }
}

/// Keeps of the gradients of embedding table and output layer only those of the last `added`
/// tokens. Weight decay still reaches the other rows, as in the reference.
///
/// # Errors
/// A table with fewer rows than that.
pub fn mask_new_rows(grads: &mut GradStore, vars: &[(String, Var)], added: usize) -> Result<()> {
    for (name, var) in vars {
        // Memory holds the embedding table as [rows,width], the output layer as [width,rows].
        let axis = match (name.contains("embed_tokens"), name.contains("lm_head")) {
            (true, _) => 0,
            (_, true) => 1,
            _ => continue,
        };
        let Some(grad) = grads.remove(var) else {
            continue;
        };
        let rows = grad.dim(axis)?;
        let Some(old) = rows.checked_sub(added) else {
            candle_core::bail!("{name} has {rows} rows where {added} tokens were added");
        };
        let mask: Vec<f32> = (0..rows).map(|row| f32::from(row >= old)).collect();
        let shape = if axis == 0 { (rows, 1) } else { (1, rows) };
        let mask = Tensor::from_vec(mask, shape, grad.device())?;
        grads.insert(var, grad.broadcast_mul(&mask)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn only_new_rows_keep_their_gradients() {
        let embed = Var::ones((3, 2), candle_core::DType::F32, &Device::Cpu).unwrap();
        let head = Var::ones((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let sum = |v: &Var| v.as_tensor().sqr().unwrap().sum_all().unwrap();
        let mut grads = (sum(&embed) + sum(&head)).unwrap().backward().unwrap();
        let vars = [
            ("model.embed_tokens.weight".to_string(), embed.clone()),
            ("lm_head.weight".to_string(), head.clone()),
        ];
        mask_new_rows(&mut grads, &vars, 1).unwrap();
        let e = grads.get(&embed).unwrap().to_vec2::<f32>().unwrap();
        let h = grads.get(&head).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(e, [[0.0, 0.0], [0.0, 0.0], [2.0, 2.0]]);
        assert_eq!(h, [[0.0, 0.0, 2.0], [0.0, 0.0, 2.0]]);
        assert!(mask_new_rows(&mut grads, &vars, 4).is_err());
    }
}
