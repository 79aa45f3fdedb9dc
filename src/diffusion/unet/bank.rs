//! Reference attention: what the self-attention of a UNet's way up saw of other pictures, so that
//! a picture attends to them beside itself (StoryDiffusion, arXiv 2405.01434).

use crate::nn::{Array, Result, StoredArray, dims_of, noise};
use std::collections::BTreeMap;

/// The stream of noise from which tokens are drawn, beyond those of the steps.
const STREAM: u64 = 1 << 40;
/// Streams of one call: more than a UNet has attentions.
const LAYERS: u64 = 1 << 12;

/// Keys and values of the reference pictures of one call of the UNet, by the number of the
/// attention. It is made anew for every call and dropped after it.
#[derive(Clone, Debug, Default)]
pub struct ReferenceBank {
    layers: BTreeMap<usize, (StoredArray, StoredArray)>,
}

/// Which tokens of a reference picture are kept as keys and values.
#[derive(Clone, Copy, Debug)]
pub struct TokenSelection {
    /// Seed of the picture.
    pub seed: u64,
    /// The call of the UNet, from 0.
    pub call: usize,
    /// The number of the picture, from 0.
    pub picture: usize,
    /// How many of the tokens, 0 to 1.
    pub share: f64,
}

impl TokenSelection {
    /// The places of the chosen ones among `tokens`, in order.
    fn places(&self, layer: usize, tokens: usize) -> Result<Vec<u32>> {
        let count = ((tokens as f64 * self.share).ceil() as usize).min(tokens);
        let call = self.call as u64 * LAYERS + layer as u64;
        let stream = ((self.picture as u64) << 32) + call;
        let drawn = noise(
            self.seed,
            STREAM + stream,
            &[tokens],
            &candle_core::Device::Cpu,
        )?;
        let drawn = drawn.to_vec1::<f32>()?;
        let mut places: Vec<u32> = (0..tokens as u32).collect();
        places.sort_by(|&a, &b| drawn[b as usize].total_cmp(&drawn[a as usize]));
        places.truncate(count);
        places.sort_unstable();
        Ok(places)
    }
}

impl ReferenceBank {
    /// Keeps the picked of keys and values `[1,T,C]` of the attention `layer`.
    pub(super) fn keep<A: Array>(
        &mut self,
        layer: usize,
        k: &A,
        v: &A,
        pick: TokenSelection,
    ) -> Result<()> {
        let [_, tokens, _] = dims_of(k)?;
        let places = pick.places(layer, tokens)?;
        if places.is_empty() {
            return Ok(());
        }
        let (k, v) = (k.select(&places, 1)?, v.select(&places, 1)?);
        let both = match self.layers.remove(&layer) {
            Some((before, values)) => (
                A::join(&[&k.beside_held(&before)?, &k], 1)?,
                A::join(&[&v.beside_held(&values)?, &v], 1)?,
            ),
            None => (k, v),
        };
        self.layers.insert(layer, (both.0.hold(), both.1.hold()));
        Ok(())
    }

    /// Keys and values `[B,T,C]` of the attention `layer` with those that were kept behind them.
    pub(super) fn join<A: Array>(&self, layer: usize, k: A, v: A) -> Result<(A, A)> {
        let Some((more_k, more_v)) = self.layers.get(&layer) else {
            return Ok((k, v));
        };
        let with = |own: &A, more: &StoredArray| {
            let more = own.beside_held(more)?;
            let ([batch, _, _], [_, tokens, width]) = (dims_of(own)?, dims_of(&more)?);
            A::join(&[own, &more.repeat_to(&[batch, tokens, width])?], 1)
        };
        Ok((with(&k, more_k)?, with(&v, more_v)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Mask, attention};
    use candle_core::{Device, Tensor};

    const PICK: TokenSelection = TokenSelection {
        seed: 7,
        call: 3,
        picture: 0,
        share: 0.5,
    };

    fn draw(stream: u64, tokens: usize) -> Tensor {
        noise(5, stream, &[1, tokens, 4], &Device::Cpu).unwrap()
    }

    fn values(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn the_same_share_is_drawn_again_and_another_in_every_call_and_layer() {
        let places = PICK.places(2, 9).unwrap();
        assert_eq!(places.len(), 5);
        assert!(places.is_sorted() && places[4] < 9);
        assert_eq!(places, PICK.places(2, 9).unwrap());
        let all = |pick: TokenSelection, layer| pick.places(layer, 64).unwrap();
        let usual = all(PICK, 2);
        assert_ne!(usual, all(PICK, 3));
        assert_ne!(usual, all(TokenSelection { call: 4, ..PICK }, 2));
        assert_ne!(usual, all(TokenSelection { picture: 1, ..PICK }, 2));
        assert_ne!(usual, all(TokenSelection { seed: 8, ..PICK }, 2));
        let of = |share| TokenSelection { share, ..PICK }.places(0, 6).unwrap();
        assert_eq!(of(1.0), [0, 1, 2, 3, 4, 5]);
        assert!(of(0.0).is_empty());
    }

    /// With all tokens kept, what a query finds is softmax over both pictures' keys at once.
    #[test]
    fn queries_attend_to_both_pictures_at_once() {
        let (q, k, v) = (draw(0, 3), draw(1, 3), draw(2, 3));
        let (other_k, other_v) = (draw(3, 2), draw(4, 2));
        let mut bank = ReferenceBank::default();
        let whole = TokenSelection { share: 1.0, ..PICK };
        bank.keep(6, &other_k, &other_v, whole).unwrap();
        let (joint_k, joint_v) = bank.join(6, k.clone(), v.clone()).unwrap();
        let found = attention(&q, &joint_k, &joint_v, 1, 1, &Mask::None).unwrap();
        let (q, k, v) = (values(&q), values(&joint_k), values(&joint_v));
        for (i, found) in values(&found).chunks(4).enumerate() {
            let score = |j: usize| -> f64 {
                let dot: f32 = (0..4).map(|c| q[4 * i + c] * k[4 * j + c]).sum();
                (f64::from(dot) / 2.0).exp()
            };
            let sum: f64 = (0..5).map(score).sum();
            for (c, found) in found.iter().enumerate() {
                let by_hand: f64 = (0..5).map(|j| score(j) * f64::from(v[4 * j + c])).sum();
                assert!((by_hand / sum - f64::from(*found)).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn pictures_stand_one_behind_the_other_and_other_layers_stay() {
        let (k, v) = (draw(1, 4), draw(2, 4));
        let mut bank = ReferenceBank::default();
        bank.keep(1, &draw(3, 6), &draw(4, 6), PICK).unwrap();
        let second = TokenSelection { picture: 1, ..PICK };
        bank.keep(1, &draw(5, 8), &draw(6, 8), second).unwrap();
        let twice = |x: &Tensor| Tensor::cat(&[x, x], 0).unwrap();
        let (joint, _) = bank.join(1, twice(&k), twice(&v)).unwrap();
        assert_eq!(joint.dims(), [2, 4 + 3 + 4, 4]);
        let halves = [0, 1].map(|i| values(&joint.narrow(0, i, 1).unwrap()));
        assert_eq!(halves[0], halves[1]);
        let (own, _) = bank.join(2, k.clone(), v).unwrap();
        assert_eq!(values(&own), values(&k));
    }
}
