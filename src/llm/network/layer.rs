//! One layer on the processor.

use rayon::prelude::*;

use super::attend::AttentionParameters;
use super::rope::Rope;
use super::state::Buffers;
use super::{FeedForwardLayer, Layer, LlmNetwork, QuantLinear};
use crate::llm::cache::LayerCache;
use crate::llm::families::FeedForwardActivation;
use crate::nn::quant::{Product, multiply_as, vector};

impl LlmNetwork {
    /// Layers that a token goes through without giving threads back to the pool: some milliseconds.
    pub(super) fn stretch(&self) -> usize {
        const WORTH: usize = 1 << 27;
        let (width, sizes) = (self.hyper.width, &self.hyper.layers[0]);
        let inner = self.hyper.experts.map_or(sizes.inner, |e| e.inner * e.used);
        let heads = (sizes.heads + sizes.kv_heads) * self.hyper.head_width;
        (WORTH / (width * (2 * heads + 3 * inner)).max(1)).max(1)
    }

    pub(super) fn layer(
        &self,
        index: usize,
        layer: &Layer,
        cache: &mut LayerCache,
        b: &mut Buffers,
        first: usize,
        global: &Rope,
    ) {
        let (hyper, sizes) = (&self.hyper, &self.hyper.layers[index]);
        let (width, head) = (hyper.width, hyper.head_width);
        b.normed.resize(b.hidden.len(), 0.0);
        self.rms_norm(&layer.attention_norm, &b.hidden, &mut b.normed);
        self.apply(
            &mut [
                (&layer.query, &mut b.query),
                (&layer.key, &mut b.key),
                (&layer.value, &mut b.value),
            ],
            &b.normed,
            width,
        );
        for (norm, x) in [
            (&layer.query_norm, &mut b.query),
            (&layer.key_norm, &mut b.key),
        ] {
            if let Some(norm) = norm {
                self.rms_norm_in_place(norm, x);
            }
        }
        if sizes.turns {
            let (rope, turns) = match sizes.window {
                Some(_) => (&self.local, &b.local_turns),
                None => (global, &b.turns),
            };
            rope.rotate(&mut b.query, sizes.heads * head, head, turns);
            rope.rotate(&mut b.key, sizes.kv_heads * head, head, turns);
        }
        cache.write(first, &b.key, &b.value);
        let attention = AttentionParameters {
            heads: sizes.heads,
            kv_heads: sizes.kv_heads,
            width: head,
            window: sizes.window,
            scale: hyper.attention_scale,
            cap: hyper.score_cap,
            sinks: layer.sinks.as_deref(),
            picture: b.picture,
        };
        b.mixed.resize(b.query.len(), 0.0);
        attention.attend(cache, &b.query, first, &mut b.mixed);
        self.apply(
            &mut [(&layer.output, &mut b.more)],
            &b.mixed,
            sizes.heads * head,
        );
        if let Some(norm) = &layer.post_attention_norm {
            self.rms_norm_in_place(norm, &mut b.more);
        }
        add(&mut b.hidden, &b.more);

        self.rms_norm(&layer.inner_norm, &b.hidden, &mut b.normed);
        match &layer.feed {
            FeedForwardLayer::Dense { gate, up, down } => {
                self.apply(
                    &mut [(gate, &mut b.gate), (up, &mut b.up)],
                    &b.normed,
                    width,
                );
                self.activate(&mut b.gate, &b.up);
                self.apply(&mut [(down, &mut b.more)], &b.gate, sizes.inner);
            }
            FeedForwardLayer::Experts(mixture) => {
                b.more.resize(b.hidden.len(), 0.0);
                mixture.forward(self, &b.normed, &mut b.more);
            }
        }
        if let Some(norm) = &layer.post_inner_norm {
            self.rms_norm_in_place(norm, &mut b.more);
        }
        add(&mut b.hidden, &b.more);
    }

    /// Multiplies `x`, `[tokens, cols]`, with each matrix, and adds its bias.
    pub(super) fn apply(
        &self,
        products: &mut [(&QuantLinear, &mut Vec<f32>)],
        x: &[f32],
        cols: usize,
    ) {
        let tokens = x.len() / cols;
        let mut all: Vec<Product> = products
            .iter_mut()
            .map(|(linear, out)| {
                out.resize(tokens * linear.weight.rows(), 0.0);
                Product {
                    matrix: &linear.weight,
                    out,
                }
            })
            .collect();
        multiply_as(self.activations, &mut all, x, cols);
        for (linear, out) in products {
            if let Some(bias) = &linear.bias {
                out.chunks_exact_mut(bias.len())
                    .for_each(|out| add(out, bias));
            }
        }
    }

    /// What stands between the products of the feed-forward part, into `gate`.
    pub(super) fn activate(&self, gate: &mut [f32], up: &[f32]) {
        const SHARE: usize = 1 << 13;
        let one = match self.hyper.family.activation {
            FeedForwardActivation::Silu => vector::swiglu,
            FeedForwardActivation::GeluTanh => vector::geglu_tanh,
            FeedForwardActivation::Clamped => vector::clamped_glu,
        };
        if gate.len() <= 4 * SHARE {
            one(gate, up);
        } else {
            gate.par_chunks_mut(SHARE)
                .zip(up.par_chunks(SHARE))
                .for_each(|(gate, up)| one(gate, up));
        }
    }

    /// RMS norm of every row of `x`, as long as `weight`.
    pub(super) fn rms_norm(&self, weight: &[f32], x: &[f32], out: &mut [f32]) {
        out.copy_from_slice(x);
        self.rms_norm_in_place(weight, out);
    }

    pub(super) fn rms_norm_in_place(&self, weight: &[f32], x: &mut [f32]) {
        vector::rms_norm(x, weight, self.hyper.norm_epsilon);
    }
}

fn add(sum: &mut [f32], more: &[f32]) {
    for (sum, more) in sum.iter_mut().zip(more) {
        *sum += more;
    }
}
