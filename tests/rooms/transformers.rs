//! FLUX.1 and Z-Image in the precisions that their files have, on the tiny models of the recorded
//! cases: half precision, fp8, GGUF; cancelling and previews.

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use vokenboard::catalogue;
use vokenboard::diffusion::{Dit, DitPipeline, DitPromptEmbeds, DitRequest, PipelineProgress};
use vokenboard::nn::noise;
use vokenboard::weights::WeightsKind;

type Tensors = HashMap<String, Tensor>;

const CPU: Device = Device::Cpu;
const INSIDE: &str = "model.diffusion_model.";

fn case(path: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/pictures");
    fixtures.join(path)
}

/// A model of a recorded case taken apart: its transformer, its other parts as files of their own,
/// and a folder with its configuration.
struct Parts {
    dir: TempDir,
    transformer: Tensors,
    parts: Vec<PathBuf>,
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// The tensors whose names begin so, without that beginning.
fn under(all: &Tensors, prefix: &str) -> Tensors {
    all.iter()
        .filter_map(|(name, t)| Some((name.strip_prefix(prefix)?.to_owned(), t.clone())))
        .collect()
}

impl Parts {
    fn of(case_name: &str) -> Parts {
        let dir = tempfile::tempdir().unwrap();
        copy(&case(case_name).join("config"), &dir.path().join("config"));
        let file = case(case_name).join("model.safetensors");
        let all = candle_core::safetensors::load(file, &CPU).unwrap();
        let mut parts: Vec<PathBuf> = Vec::new();
        for (name, prefix) in [
            ("clip", "text_encoders.clip_l.transformer."),
            ("t5", "text_encoders.t5xxl.transformer."),
            ("vae", "vae."),
        ] {
            let part = under(&all, prefix);
            if !part.is_empty() {
                let file = dir.path().join(format!("{name}.safetensors"));
                candle_core::safetensors::save(&part, &file).unwrap();
                parts.push(file);
            }
        }
        let extra = case(case_name).join("extra");
        for entry in fs::read_dir(extra).into_iter().flatten() {
            parts.push(entry.unwrap().path());
        }
        let inside = under(&all, INSIDE);
        let transformer = if inside.is_empty() { all } else { inside };
        Parts {
            dir,
            transformer,
            parts,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn open(&self, file: &str) -> Dit {
        Dit::open(&self.file(file), &self.parts, &CPU).unwrap()
    }

    /// Writes the transformer with every tensor as `change` has it, and opens it.
    fn saved(&self, name: &str, change: impl Fn(&Tensor) -> Tensor) -> Dit {
        let changed = self.transformer.iter();
        let changed: Tensors = changed.map(|(n, t)| (n.clone(), change(t))).collect();
        candle_core::safetensors::save(&changed, self.file(name)).unwrap();
        self.open(name)
    }
}

/// What the transformer answers to noise.
fn velocity(model: &Dit) -> Tensor {
    let told = DitPromptEmbeds {
        states: noise(3, 1, &[1, 7, 32], &CPU).unwrap(),
        pooled: Some(noise(3, 2, &[1, 32], &CPU).unwrap()),
    };
    let latents = noise(3, 0, &[1, 4, 6, 16], &CPU).unwrap();
    let network = model.network().unwrap();
    network.predict(&latents, 0.7, (&told, None), 3.5).unwrap()
}

fn apart(a: &Tensor, b: &Tensor) -> f32 {
    let of = |t: Tensor| {
        t.abs()
            .unwrap()
            .max_all()
            .unwrap()
            .to_scalar::<f32>()
            .unwrap()
    };
    of((a - b).unwrap()) / of(b.clone()).max(1.0)
}

const CASES: [&str; 2] = ["26-flux-single", "29-z-image-parts"];

/// Weights in fewer bits are computed with as they are: the answer is that of the same numbers in
/// f32.
#[test]
fn halves_and_fp8_are_computed_in_f32() {
    for name in CASES {
        let parts = Parts::of(name);
        let whole = velocity(&parts.saved("whole.safetensors", Tensor::clone));
        for kind in [DType::F16, DType::BF16, DType::F8E4M3] {
            let to = |t: &Tensor, kind| t.to_dtype(kind).unwrap();
            let few = parts.saved("few.safetensors", |t| to(t, kind));
            let rounded = parts.saved("rounded.safetensors", |t| to(&to(t, kind), DType::F32));
            let (_, bytes, _) = few.weight_bytes();
            let (_, all, _) = rounded.weight_bytes();
            assert!(bytes < all * 6 / 10, "{name} {kind:?}: {bytes} of {all}");
            let (few, rounded) = (velocity(&few), velocity(&rounded));
            let off = apart(&few, &rounded);
            assert!(off < 1e-5, "{name} {kind:?}: {off}");
            assert!(apart(&few, &whole) > 1e-6, "{name} {kind:?} was not read");
        }
    }
}

/// Matrices whose rows are whole blocks as Q8_0, others in f16: the answer is that of the numbers
/// that they stand for.
#[test]
fn a_transformer_in_a_gguf_file_is_run() {
    for name in CASES {
        let parts = Parts::of(name);
        let mut stands_for = Tensors::new();
        let packed: Vec<(String, QTensor)> = parts
            .transformer
            .iter()
            .map(|(name, t)| {
                let kind = match t.dims() {
                    [_, cols] if cols % 32 == 0 => GgmlDType::Q8_0,
                    [_, _] => GgmlDType::F16,
                    _ => GgmlDType::F32,
                };
                let t = t.to_dtype(DType::F32).unwrap();
                let packed = QTensor::quantize(&t, kind).unwrap();
                stands_for.insert(name.clone(), packed.dequantize(&CPU).unwrap());
                (name.clone(), packed)
            })
            .collect();
        let arch = Value::String("flux".to_owned());
        let tensors: Vec<_> = packed.iter().map(|(n, t)| (n.as_str(), t)).collect();
        let mut file = fs::File::create(parts.file("packed.gguf")).unwrap();
        gguf_file::write(&mut file, &[("general.architecture", &arch)], &tensors).unwrap();
        drop(file);
        let identity = catalogue::identify(&parts.file("packed.gguf")).unwrap();
        assert_eq!(identity.is, WeightsKind::Refused);
        let instead = identity.instead.unwrap_or_default();
        assert!(instead.contains("--with"), "{instead}");
        assert!(identity.notes.is_empty(), "{:?}", identity.notes);

        let model = parts.open("packed.gguf");
        let plain = Parts {
            transformer: stands_for,
            ..parts
        };
        let want = velocity(&plain.saved("plain.safetensors", Tensor::clone));
        let off = apart(&velocity(&model), &want);
        assert!(off < 2e-3, "{name}: {off}");
        assert!(model.weight_bytes().1 < plain.open("plain.safetensors").weight_bytes().1 / 2);
    }
}

fn request(steps: usize) -> DitRequest<'static> {
    DitRequest {
        prompt: "a fox by the sea",
        negative: "",
        size: (32, 24),
        seed: 5,
        variation: None,
        guidance: 1.0,
        steps,
        init: None,
        mask: None,
    }
}

#[test]
fn cancelling_is_obeyed_within_a_step_and_every_step_has_a_preview() {
    for name in ["24-flux-schnell", "27-z-image-turbo"] {
        let open = || Dit::open(&case(name).join("model"), &[], &CPU).unwrap();
        let mut pipeline = DitPipeline::new(open());
        let (mut asked, mut previews) = (0, Vec::new());
        let picture = pipeline.draw(&request(3), &mut |heard| {
            match heard {
                PipelineProgress::Still => asked += 1,
                PipelineProgress::Step(done) => previews.push(done.preview),
                PipelineProgress::Loading(_) => {}
            }
            ControlFlow::Continue(())
        });
        assert!(picture.unwrap().is_some(), "{name}");
        assert_eq!(previews.len(), 3, "{name}");
        let flat = |p: &image::RgbaImage| p.pixels().all(|pixel| pixel == p.get_pixel(0, 0));
        assert!(previews.iter().all(|preview| !flat(preview)), "{name}");
        // Before every block of every step, of which there are at least two.
        assert!(asked >= 6, "{name}: {asked}");

        let mut steps = 0;
        let mut left = asked / 2;
        let cancelled = pipeline.draw(&request(3), &mut |heard| {
            if matches!(heard, PipelineProgress::Step(_)) {
                steps += 1;
            }
            if matches!(heard, PipelineProgress::Still) {
                left = usize::saturating_sub(left, 1);
                if left == 0 {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        });
        assert!(cancelled.unwrap().is_none(), "{name}");
        assert!(steps < 3, "{name}: {steps}");
        // It can be used again.
        let again = pipeline.draw(&request(1), &mut |_| ControlFlow::Continue(()));
        assert!(again.unwrap().is_some(), "{name}");
    }
}
