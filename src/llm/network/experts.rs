//! The feed-forward part as a mixture of experts.

use super::{LlmNetwork, QuantLinear};

/// The experts of a layer.
pub(super) struct MixtureOfExperts {
    pub router: QuantLinear,
    /// One of each an expert.
    pub gate: Vec<QuantLinear>,
    pub up: Vec<QuantLinear>,
    pub down: Vec<QuantLinear>,
    pub used: usize,
}

/// A token in an expert's batch, with the router's weight.
struct ExpertToken {
    token: usize,
    weight: f32,
}

impl MixtureOfExperts {
    /// What the experts make of `x`, `[tokens, width]`, into `out` of the same shape.
    pub(super) fn forward(&self, network: &LlmNetwork, x: &[f32], out: &mut [f32]) {
        let width = network.hyper.width;
        let mut logits = Vec::new();
        network.apply(&mut [(&self.router, &mut logits)], x, width);
        let count = self.gate.len();
        let mut shares: Vec<Vec<ExpertToken>> = (0..count).map(|_| Vec::new()).collect();
        for (token, logits) in logits.chunks_exact(count).enumerate() {
            for (expert, weight) in choose(logits, self.used) {
                shares[expert].push(ExpertToken { token, weight });
            }
        }
        out.fill(0.0);
        if x.len() == width {
            return self.one(network, x, &shares, out);
        }
        let (mut batch, mut gate, mut up, mut made) = Default::default();
        for (expert, shares) in shares.iter().enumerate() {
            if shares.is_empty() {
                continue;
            }
            let batch: &mut Vec<f32> = &mut batch;
            batch.clear();
            for share in shares {
                batch.extend_from_slice(&x[share.token * width..][..width]);
            }
            let both = &mut [(&self.gate[expert], &mut gate), (&self.up[expert], &mut up)];
            network.apply(both, batch, width);
            network.activate(&mut gate, &up);
            let inner = self.gate[expert].weight.rows();
            network.apply(&mut [(&self.down[expert], &mut made)], &gate, inner);
            for (share, made) in shares.iter().zip(made.chunks_exact(width)) {
                let out = &mut out[share.token * width..][..width];
                out.iter_mut()
                    .zip(made)
                    .for_each(|(out, made)| *out += share.weight * made);
            }
        }
    }
}

impl MixtureOfExperts {
    /// [`MixtureOfExperts::forward`] of one token, whose experts read it together: handing out work
    /// once for all of them takes less time.
    fn one(&self, network: &LlmNetwork, x: &[f32], shares: &[Vec<ExpertToken>], out: &mut [f32]) {
        let width = x.len();
        let chosen = shares.iter().enumerate();
        let chosen = chosen.filter_map(|(expert, shares)| Some((expert, shares.first()?)));
        let chosen: Vec<(usize, &ExpertToken)> = chosen.collect();
        let mut inner: Vec<(Vec<f32>, Vec<f32>)> = Vec::new();
        inner.resize_with(chosen.len(), Default::default);
        let mut products = Vec::with_capacity(2 * chosen.len());
        for ((expert, _), (gate, up)) in chosen.iter().zip(&mut inner) {
            products.push((&self.gate[*expert], gate));
            products.push((&self.up[*expert], up));
        }
        network.apply(&mut products, x, width);
        let mut made = Vec::new();
        for ((expert, share), (gate, up)) in chosen.iter().zip(&mut inner) {
            network.activate(gate, up);
            let cols = gate.len();
            network.apply(&mut [(&self.down[*expert], &mut made)], gate, cols);
            out.iter_mut()
                .zip(&made)
                .for_each(|(out, made)| *out += share.weight * made);
        }
    }
}

/// The best experts and their shares: the softmax of the best ones' logits, which is also that of
/// all of them divided by the sum of the best.
fn choose(logits: &[f32], used: usize) -> Vec<(usize, f32)> {
    let mut best: Vec<(usize, f32)> = logits.iter().copied().enumerate().collect();
    best.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    best.truncate(used);
    let largest = best[0].1;
    best.iter_mut().for_each(|(_, x)| *x = (*x - largest).exp());
    let total: f32 = best.iter().map(|(_, x)| x).sum();
    best.iter_mut().for_each(|(_, x)| *x /= total);
    best
}
