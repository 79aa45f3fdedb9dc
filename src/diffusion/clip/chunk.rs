//! Prompts of any length in chunks of 75 tokens, and what their weights do.

use super::{ClipTokenizer, WeightedText};
use crate::nn::Result;
use candle_core::{DType, Tensor};

/// Token ids for one pass of the text encoder, with their weights.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenChunk {
    /// With begin, end and padding.
    pub ids: Vec<u32>,
    /// One for each id.
    pub weights: Vec<f32>,
}

/// How far back a chunk that is full may end at a comma.
const BACK: usize = 20;

/// The chunks of a prompt, at least one. One that is short and has no marks is the one text that
/// diffusers makes of it. A chunk that is full ends at its last comma where that is among its last
/// 20 tokens, and the tokens of an embedding stay together, as in A1111.
pub fn split_chunks(tokenizer: &ClipTokenizer, pieces: &[WeightedText]) -> Vec<TokenChunk> {
    let room = tokenizer.length() - 2;
    let comma = tokenizer.items(",").concat();
    let mut open = OpenChunk::default();
    let mut done = Vec::new();
    for piece in pieces {
        let WeightedText::Text { text, weight } = piece else {
            done.push(open.close());
            continue;
        };
        for ids in tokenizer.items(text) {
            if open.ids.len() + ids.len() > room {
                let from = open
                    .comma
                    .filter(|at| open.ids.len() - at <= BACK && *at > 0);
                let rest = open.split(from.filter(|_| ids.len() == 1).unwrap_or(open.ids.len()));
                done.push(open.close());
                open = rest;
            }
            // An embedding larger than a chunk loses what is beyond.
            for id in ids.iter().take(room) {
                open.ids.push(*id);
                open.weights.push(*weight);
            }
            if ids == comma {
                open.comma = Some(open.ids.len());
            }
        }
    }
    if !open.ids.is_empty() || done.is_empty() {
        done.push(open.close());
    }
    done.into_iter().map(|open| open.fill(tokenizer)).collect()
}

/// A chunk in the making, without begin, end and padding.
#[derive(Default)]
struct OpenChunk {
    ids: Vec<u32>,
    weights: Vec<f32>,
    /// Just after the last comma.
    comma: Option<usize>,
}

impl OpenChunk {
    fn split(&mut self, at: usize) -> OpenChunk {
        OpenChunk {
            ids: self.ids.split_off(at),
            weights: self.weights.split_off(at),
            comma: None,
        }
    }

    fn close(&mut self) -> OpenChunk {
        std::mem::take(self)
    }

    fn fill(self, tokenizer: &ClipTokenizer) -> TokenChunk {
        let (begin, end, pad) = tokenizer.special_ids();
        let (mut ids, mut weights) = (vec![begin], vec![1.0]);
        ids.extend(self.ids);
        weights.extend(self.weights);
        ids.push(end);
        ids.resize(tokenizer.length(), pad);
        weights.resize(tokenizer.length(), 1.0);
        TokenChunk { ids, weights }
    }
}

/// States `[1,T,C]` times the weight of each token; their mean stays what it was, as in A1111.
///
/// # Errors
/// Weights that are not one for each token.
pub fn apply_weights(states: &Tensor, weights: &[f32]) -> Result<Tensor> {
    if weights.iter().all(|weight| *weight == 1.0) {
        return Ok(states.clone());
    }
    let by = Tensor::new(weights, states.device())?.reshape((1, weights.len(), 1))?;
    let weighed = states.broadcast_mul(&by)?;
    let mean = |t: &Tensor| -> Result<f64> {
        let mean = t.to_dtype(DType::F64)?.mean_all()?;
        mean.to_scalar::<f64>()
    };
    let (was, is) = (mean(states)?, mean(&weighed)?);
    // Weights of nothing leave nothing to scale.
    match is == 0.0 {
        true => Ok(weighed),
        false => weighed * (was / is),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{PadToken, parse_weights};
    use super::*;
    use candle_core::Device;

    fn tokenizer() -> ClipTokenizer {
        ClipTokenizer::published(PadToken::End).unwrap()
    }

    #[test]
    fn a_short_plain_prompt_is_diffusers_one_text() {
        let t = tokenizer();
        for text in ["", "a photo of a cat", "A fox, by the sea!"] {
            let all = split_chunks(&t, &parse_weights(text));
            assert_eq!(all.len(), 1);
            assert_eq!(all[0].ids, t.encode(text));
            assert!(all[0].weights.iter().all(|w| *w == 1.0));
        }
        let full = "cat ".repeat(75);
        let all = split_chunks(&t, &parse_weights(&full));
        assert_eq!((all.len(), &all[0].ids), (1, &t.encode(&full)));
    }

    #[test]
    fn weights_stand_at_their_tokens() {
        let all = split_chunks(&tokenizer(), &parse_weights("a (red:1.3) fox"));
        assert_eq!(all[0].weights[..5], [1.0, 1.0, 1.3, 1.0, 1.0]);
    }

    #[test]
    fn a_long_prompt_goes_on_in_the_next_chunk() {
        let t = tokenizer();
        let all = split_chunks(&t, &parse_weights(&"cat ".repeat(80)));
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].ids, t.encode(&"cat ".repeat(75)));
        assert_eq!(all[1].ids, t.encode(&"cat ".repeat(5)));
        // At a comma, where one is near.
        let text = format!("{}, {}", "cat ".repeat(69), "dog ".repeat(10));
        let all = split_chunks(&t, &parse_weights(&text));
        assert_eq!(all[0].ids, t.encode(&format!("{},", "cat ".repeat(69))));
        assert_eq!(all[1].ids, t.encode(&"dog ".repeat(10)));
        let told = split_chunks(&t, &parse_weights("a fox BREAK an owl"));
        assert_eq!(told[1].ids, t.encode("an owl"));
    }

    #[test]
    fn an_embedding_is_not_torn() {
        let t = tokenizer().with_added(&[("style".to_string(), 49408..49418)]);
        let all = split_chunks(&t, &parse_weights(&format!("{}style", "cat ".repeat(70))));
        assert_eq!(all.len(), 2);
        assert_eq!(all[1].ids[1..11], (49408..49418).collect::<Vec<u32>>());
    }

    #[test]
    fn weighing_keeps_the_mean() {
        let states = Tensor::new(&[[[1f32, 3.0], [2.0, 2.0]]], &Device::Cpu).unwrap();
        let weighed = apply_weights(&states, &[1.0, 3.0]).unwrap();
        let values = weighed.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        // (1, 3, 6, 6) has mean 4, and it was 2.
        assert_eq!(values, [0.5, 1.5, 3.0, 3.0]);
        let same = apply_weights(&states, &[1.0, 1.0]).unwrap();
        assert_eq!(
            same.to_vec3::<f32>().unwrap(),
            states.to_vec3::<f32>().unwrap()
        );
    }
}
