//! Generation: one token after the other, and when the model asks for a picture, all its vokens
//! in one pass (reference: `MiniGPT4.generate` and the model's `prepare_inputs_for_generation`).

use super::cached_lm::TokenRules;
use super::sample::{draw, likeliest, numbered, once, process, process_candidates};
use super::{CachedLm, SamplingParams, VokenIds};
use crate::nn::Result;
use candle_core::Tensor;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::ops::ControlFlow;

/// Tokens that a text has at least where it must not be empty.
const FEW: usize = 4;

/// Generation settings: sampling, length, stop sequences, and which tokens are suppressed.
#[derive(Clone, Debug)]
pub struct GenerationConfig {
    /// Temperature, top-p, top-k and repetition penalty.
    pub sampling: SamplingParams,
    /// Seeds the draws; none takes the likeliest token at every step.
    pub seed: Option<u64>,
    /// Most tokens that are generated.
    pub max_new_tokens: usize,
    /// Whether a picture is to come, wanted by the model or not.
    pub force_picture: bool,
    /// Tokens that may not come.
    pub suppress_tokens: Vec<u32>,
    /// Tokens that may not come among the first few, so that there is a text before the picture
    /// or the end.
    pub suppress_initially: Vec<u32>,
    /// Token sequences that end the text; they stay in it.
    pub stop_sequences: Vec<Vec<u32>>,
    /// The id that ends the text.
    pub eos: Option<u32>,
    /// The id that the sequence begins with: never read, but seen by the repetition penalty.
    pub bos: u32,
}

/// One forward pass during generation, as the callback gets it.
pub struct GenerationStep<'a> {
    /// The sequence so far, with the token that this call chose.
    pub sequence: &'a [u32],
    /// Tokens that were read in this call and the place of the first.
    pub read: usize,
    /// Place of the first token that was read.
    pub first: usize,
    /// `[1,read,width]`.
    pub hidden: &'a Tensor,
    /// After the last of them; empty where the token was chosen from the likeliest alone
    /// ([`CachedLm::candidates`]).
    pub logits: &'a [f32],
    /// What the token was chosen from, likewise.
    pub scores: &'a [f32],
}

/// A generated text.
#[derive(Clone, Debug)]
pub struct Generated {
    /// The start id, then what was generated. Of the vokens only the first appears.
    pub sequence: Vec<u32>,
    /// The states `[1,vokens,width]` that the first picture is made from.
    pub voken_states: Option<Tensor>,
}

/// Continues a text whose embeddings are `prompt [1,T,width]`. `sink` sees every step and breaks
/// to cancel; then the result is `None`.
///
/// # Errors
/// When the text gets too long for the model.
pub fn generate(
    reader: &mut dyn CachedLm,
    prompt: &Tensor,
    vocabulary: &VokenIds,
    config: &GenerationConfig,
    sink: &mut dyn FnMut(&GenerationStep) -> ControlFlow<()>,
) -> Result<Option<Generated>> {
    let mut rng = config.seed.map(ChaCha8Rng::seed_from_u64);
    let mut sequence = vec![config.bos];
    let mut states: Option<Tensor> = None;
    // The last hidden state of the call before.
    let mut before: Option<Tensor> = None;
    let mut input: Option<Tensor> = None;
    let mut pending = false;
    for _ in 0..config.max_new_tokens {
        let (first, hidden) = match &input {
            None => (0, reader.begin(prompt)?),
            Some(input) => (reader.len(), reader.read(input)?),
        };
        if pending && states.is_none() {
            states = Some(picture_states(before.as_ref(), &hidden)?);
        }
        let read = hidden.dim(1)?;
        let last = hidden.narrow(1, read - 1, 1)?;
        let early = sequence.len() <= FEW;
        let suppress_initially = config.suppress_initially.iter().filter(|_| early);
        let suppressed = config.suppress_tokens.iter().chain(suppress_initially);
        let suppressed: Vec<u32> = suppressed.copied().collect();
        let asked = sequence.contains(&vocabulary.first);
        let force = (config.force_picture && !asked).then_some(vocabulary.first);
        let sampling = &config.sampling;
        let greedy = sampling.temperature.is_nan() || sampling.temperature <= 0.0;
        let rules = TokenRules {
            suppressed: &suppressed,
            seen: &once(&sequence),
            repetition_penalty: sampling.repetition_penalty,
        };
        let found = match sampling.top_k {
            0 => None,
            _ => reader.candidates(&last, &rules)?,
        };
        let kept = found
            .and_then(|found| process_candidates(&found.tokens, found.vocabulary, sampling, force));
        let (mut logits, mut scores) = (Vec::new(), Vec::new());
        let token = match (kept, &mut rng) {
            (Some(kept), Some(rng)) if !greedy => draw(kept.into_iter(), rng),
            (Some(kept), _) => likeliest(kept.into_iter()),
            (None, rng) => {
                logits = reader.logits(&last)?;
                scores = logits.clone();
                for id in &suppressed {
                    if let Some(score) = scores.get_mut(*id as usize) {
                        *score = f32::NEG_INFINITY;
                    }
                }
                process(&mut scores, &sequence, sampling, force);
                match rng {
                    Some(rng) if !greedy => draw(numbered(&scores), rng),
                    _ => likeliest(numbered(&scores)),
                }
            }
        };
        sequence.push(token);
        before = Some(last);
        let step = GenerationStep {
            sequence: &sequence,
            read,
            first,
            hidden: &hidden,
            logits: &logits,
            scores: &scores,
        };
        if sink(&step).is_break() {
            return Ok(None);
        }
        pending = token == vocabulary.first;
        input = Some(match pending {
            true => reader.embed(&vocabulary.ids())?,
            false => reader.embed(&[token])?,
        });
        if ends(&sequence, config) {
            break;
        }
    }
    // A picture that was asked for with the last token still gets its states.
    if let Some(input) = input.filter(|_| pending && states.is_none()) {
        let hidden = reader.read(&input)?;
        states = Some(picture_states(before.as_ref(), &hidden)?);
    }
    Ok(Some(Generated {
        sequence,
        voken_states: states,
    }))
}

/// The states that a picture is made from when it comes right after `prompt [1,T,width]`, whether
/// or not the model would ask for it there.
///
/// # Errors
/// When the text gets too long for the model.
pub fn force_picture(
    reader: &mut dyn CachedLm,
    prompt: &Tensor,
    vocabulary: &VokenIds,
) -> Result<Tensor> {
    let hidden = reader.begin(prompt)?;
    let last = hidden.narrow(1, hidden.dim(1)? - 1, 1)?;
    let vokens = reader.read(&reader.embed(&vocabulary.ids())?)?;
    picture_states(Some(&last), &vokens)
}

/// The likeliest description of the picture that comes right after `prompt [1,T,width]`: where a
/// model was tuned to follow `[IMG0]` with words, up to the end of the line or `longest` tokens.
///
/// # Errors
/// When the text gets too long for the model.
pub fn force_description(
    reader: &mut dyn CachedLm,
    prompt: &Tensor,
    vocabulary: &VokenIds,
    line_end: u32,
    longest: usize,
) -> Result<Vec<u32>> {
    reader.begin(prompt)?;
    let mut ids = Vec::new();
    let mut next = vocabulary.first;
    while ids.len() < longest {
        let hidden = reader.read(&reader.embed(&[next])?)?;
        let mut scores = reader.logits(&hidden)?;
        scores.truncate(vocabulary.first as usize);
        next = likeliest(numbered(&scores));
        if next == line_end {
            break;
        }
        ids.push(next);
    }
    Ok(ids)
}

/// The state that chose `[IMG0]`, then those of all vokens but the last: each state predicts the
/// voken that the picture takes it for.
fn picture_states(before: Option<&Tensor>, vokens: &Tensor) -> Result<Tensor> {
    let rest = vokens.narrow(1, 0, vokens.dim(1)? - 1)?;
    match before {
        Some(before) => Tensor::cat(&[before, &rest], 1),
        None => candle_core::bail!("a picture needs a text before it; write its first words"),
    }
}

fn ends(sequence: &[u32], config: &GenerationConfig) -> bool {
    let last = sequence.last().copied();
    let stopped = |stop: &Vec<u32>| !stop.is_empty() && sequence.ends_with(stop);
    (config.eos.is_some() && last == config.eos) || config.stop_sequences.iter().any(stopped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};

    /// Likes `[IMG0]` best, then the end, then a word, whatever it reads.
    struct Eager(usize);

    impl CachedLm for Eager {
        fn begin(&mut self, prompt: &Tensor) -> Result<Tensor> {
            self.0 = 0;
            self.read(prompt)
        }

        fn embed(&self, ids: &[u32]) -> Result<Tensor> {
            Tensor::zeros((1, ids.len(), 2), DType::F32, &Device::Cpu)
        }

        fn read(&mut self, embeddings: &Tensor) -> Result<Tensor> {
            self.0 += embeddings.dim(1)?;
            Ok(embeddings.clone())
        }

        fn logits(&self, _: &Tensor) -> Result<Vec<f32>> {
            Ok(vec![0.0, 2.0, 1.0, 3.0, -1.0])
        }

        fn len(&self) -> usize {
            self.0
        }

        fn limit(&self) -> usize {
            99
        }

        fn device(&self) -> &Device {
            &Device::Cpu
        }
    }

    #[test]
    fn what_may_not_come_yet_comes_after_a_few_words() {
        let vocabulary = VokenIds {
            first: 3,
            vokens: 1,
            picture: 4,
            bos: 0,
        };
        let written = |suppress_initially: Vec<u32>| {
            let config = GenerationConfig {
                sampling: SamplingParams {
                    repetition_penalty: 1.0,
                    ..SamplingParams::default()
                },
                seed: None,
                max_new_tokens: 20,
                force_picture: false,
                suppress_tokens: Vec::new(),
                suppress_initially,
                stop_sequences: vec![vec![vocabulary.first]],
                eos: Some(1),
                bos: 0,
            };
            let mut reader = Eager(0);
            let prompt = reader.embed(&[2]).unwrap();
            let go_on = &mut |_: &GenerationStep| ControlFlow::Continue(());
            let made = generate(&mut reader, &prompt, &vocabulary, &config, go_on).unwrap();
            made.unwrap()
        };
        assert_eq!(written(Vec::new()).sequence, [0, 3]);
        let made = written(vec![1, 3]);
        assert_eq!(made.sequence, [0, 2, 2, 2, 2, 3]);
        assert!(made.voken_states.is_some());
    }

    /// Where a GPU computes, only the likeliest tokens come back, and the same are drawn.
    #[test]
    fn tokens_are_drawn_on_a_gpu_as_on_the_processor() {
        use crate::llm::float::{FloatConfig, FloatLlama};
        use crate::nn::gpu::{Gpu, GpuOptions, adapters};
        use crate::nn::{Params, noise};
        use crate::voken::FloatCachedLm;
        if adapters().is_empty() {
            eprintln!(
                "no adapter of Vulkan, Metal or DirectX 12 is on this machine: nothing is tested"
            );
            return;
        }
        let gpu = Gpu::open(Some(0), GpuOptions::default()).unwrap();
        let config = FloatConfig {
            vocab_size: 3000,
            max_position_embeddings: 128,
            ..FloatConfig::tiny()
        };
        let own = FloatLlama::new(config, &Params::init(1, &Device::Cpu)).unwrap();
        let mut there = own.clone();
        assert_eq!(there.move_to(&gpu).unwrap(), None);
        let prompt = noise(4, 0, &[1usize, 20, 24], &Device::Cpu).unwrap();
        let vocabulary = VokenIds {
            first: 2990,
            vokens: 4,
            picture: 2989,
            bos: 1,
        };
        for (temperature, seed, force_picture) in [
            (1.0, Some(3), false),
            (0.7, Some(4), true),
            (0.0, None, false),
            (1.0, None, true),
        ] {
            let config = GenerationConfig {
                sampling: SamplingParams {
                    temperature,
                    ..SamplingParams::default()
                },
                seed,
                max_new_tokens: 12,
                force_picture,
                suppress_tokens: vec![7, 8, 2995],
                suppress_initially: vec![2],
                stop_sequences: Vec::new(),
                eos: Some(2),
                bos: 1,
            };
            let written = |llama: &FloatLlama| {
                let mut reader = FloatCachedLm::new(llama.clone());
                let go_on = &mut |step: &GenerationStep| {
                    assert_eq!(step.logits.is_empty(), llama.is_on_gpu());
                    ControlFlow::Continue(())
                };
                generate(&mut reader, &prompt, &vocabulary, &config, go_on)
                    .unwrap()
                    .unwrap()
                    .sequence
            };
            let before = gpu.counts();
            let got = written(&there);
            let counts = gpu.counts().since(&before, 1);
            assert_eq!(got, written(&own));
            // For each token some kilobyte, where all logits are twelve; and hidden states.
            let tokens = got.len() as u64;
            assert!(
                counts.downloaded < 1500 * tokens + 24 * 4 * 60,
                "{counts:?}"
            );
        }
    }
}
