use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::{DType, Device, Tensor};

use super::*;
use crate::nn::noise;
use crate::weights::{DeviceKind, catalogue};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/public/checkpoint")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &to),
            false => fs::write(&to, fs::read(&path).unwrap()).unwrap(),
        }
    }
}

fn checked(dir: &Path) -> WeightsReport {
    check(&find(dir).unwrap().choose(dir, &Default::default()).unwrap()).unwrap()
}

#[test]
fn parts_are_found_by_their_contents_whatever_their_names() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    copy(&fixture(), dir);
    fs::rename(dir.join("eva_vit_g.pth"), dir.join("a.bin")).unwrap();
    fs::create_dir(dir.join("deep")).unwrap();
    fs::rename(dir.join("llama"), dir.join("deep/vicuna")).unwrap();
    let found = find(dir).unwrap();
    assert!(found.extra.is_empty() && found.unreadable.is_empty());
    let parts = found.choose(dir, &Default::default()).unwrap();
    assert_eq!(parts.eva_vit, dir.join("a.bin"));
    assert_eq!(parts.llama, dir.join("deep/vicuna"));
    assert_eq!(parts.stage2, Some(dir.join("stage2_vist.ckpt")));

    fs::copy(dir.join("a.bin"), dir.join("b.pth")).unwrap();
    fs::copy(
        dir.join("sd/vae/diffusion_pytorch_model.safetensors"),
        dir.join("x.safetensors"),
    )
    .unwrap();
    let found = find(dir).unwrap();
    assert_eq!(found.extra, [dir.join("x.safetensors")]);
    let message = found
        .choose(dir, &Default::default())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("2 of the vision transformer") && message.contains("--eva-vit"),
        "{message}"
    );
    let given = [(ModelPart::EvaVit, dir.join("b.pth"))].into();
    assert_eq!(
        find(dir).unwrap().choose(dir, &given).unwrap().eva_vit,
        dir.join("b.pth")
    );
    fs::remove_file(dir.join("stage1_cc3m.ckpt")).unwrap();
    let message = find(dir)
        .unwrap()
        .choose(dir, &given)
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("lacks the stage-1 checkpoint"),
        "{message}"
    );
}

#[test]
fn the_public_parts_fit_and_what_they_need_not_is_extra() {
    let report = checked(&fixture());
    assert!(report.is_good(), "{report:#?}");
    let part = |name: &str| report.parts.iter().find(|part| part.name == name).unwrap();
    let extra = &part(check::EVA).extra;
    assert!(extra.contains(&"head.weight".to_string()));
    assert!(extra.contains(&"norm.bias".to_string()));
    assert_eq!(part(check::QFORMER).extra.len(), 3);
    assert!(part(check::STAGE1).extra.is_empty());
    assert!(part(check::STAGE2).extra.is_empty());
    assert!(part(check::UNET).extra.is_empty() && part(check::VAE).extra.is_empty());
    assert_eq!(report.facts.tables, 2 * 610 * 64);
    assert_eq!(report.facts.lora, 3 * 2 * 2 * 8 * 64);
}

#[test]
fn a_missing_tensor_and_a_wrong_shape_are_named() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    copy(&fixture(), dir);
    // Another width and another depth of the vision transformer than the file has.
    let sizes = fs::read_to_string(dir.join("tiny_config.json")).unwrap();
    let sizes = sizes.replacen("\"depth\": 3", "\"depth\": 5", 1);
    fs::write(
        dir.join("tiny_config.json"),
        sizes.replacen("209", "210", 1),
    )
    .unwrap();
    let report = checked(dir);
    assert!(!report.is_good());
    let part = &report.parts[1];
    let needs = |name: &str| part.missing.iter().any(|missing| missing == name);
    assert!(needs("blocks.4.attn.q_bias"), "{part:?}");
    let wrong = ("blocks.0.mlp.fc1.bias".to_string(), vec![209], vec![210]);
    assert!(part.wrong.contains(&wrong), "{part:?}");
}

#[test]
fn an_added_folder_is_in_the_catalogue_and_names_its_parts() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, models) = (temp.path().join("Mini GPT-5"), temp.path().join("models"));
    copy(&fixture(), &dir);
    fs::create_dir(&models).unwrap();
    let parts = find(&dir)
        .unwrap()
        .choose(&dir, &Default::default())
        .unwrap();
    let model = add(&dir, &parts, &models).unwrap();
    add(&dir, &parts, &models).unwrap();
    assert_eq!(model.manifest.pipeline, "voken");
    let listed = catalogue(&models).unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].manifest.id, "mini-gpt-5");
    listed[0].verify_checksums().unwrap();
    let files: Vec<&str> = model
        .manifest
        .files
        .iter()
        .map(|f| f.path.as_str())
        .collect();
    assert!(files.contains(&"llama/tokenizer.model") && files.contains(&"eva_vit_g.pth"));
    assert!(files.contains(&"sd/unet/diffusion_pytorch_model.safetensors"));
    assert!(!files.contains(&"llama/pytorch_model-00001-of-00004.bin"));
    assert_eq!(PartPaths::read(&dir).unwrap(), parts);
    let text = fs::read_to_string(dir.join(PARTS_FILE)).unwrap();
    assert!(text.contains("llama = \"llama\""), "{text}");

    let other = temp.path().join("x/mini-gpt-5");
    copy(&fixture(), &other);
    let parts = find(&other)
        .unwrap()
        .choose(&other, &Default::default())
        .unwrap();
    let message = add(&other, &parts, &models).unwrap_err().to_string();
    assert!(
        message.contains("installed from another folder"),
        "{message}"
    );

    fs::write(dir.join(PARTS_FILE), "llama = 3").unwrap();
    let message = PartPaths::read(&dir).unwrap_err().to_string();
    assert!(message.contains("does not name the parts"), "{message}");
}

/// The report that the published model would give.
fn full(gguf: bool) -> WeightsReport {
    let part = |name: &str, numbers: u64, bytes: u64| PartReport {
        name: name.to_string(),
        numbers,
        bytes,
        ..PartReport::default()
    };
    let llama = if gguf { 4_080_000_000 } else { 13_500_000_000 };
    WeightsReport {
        parts: vec![
            part(check::LLAMA, 6_738_000_000, llama),
            part(check::EVA, 986_000_000, 1_970_000_000),
            part(check::QFORMER, 105_000_000, 420_000_000),
            part(check::PROJECTION, 3_149_824, 12_600_000),
            part(check::UNET, 866_000_000, 3_464_000_000),
            part(check::VAE, 83_600_000, 334_600_000),
        ],
        misfits: Vec::new(),
        facts: check::ModelSizes {
            gguf,
            layers: 32,
            kv_width: 4096,
            context: 2048,
            base_tables: 262_152_192,
            tables: 262_225_920,
            lora: 4_194_304,
            mapper: 123_000_000,
            seeing: 10_000_000,
            mapping: 1_000_000,
            unet_channels: vec![320, 640, 1280, 1280],
            unet_heads: 5,
            latents: 64,
            vae_channels: 128,
            vae_scale: 8,
        },
    }
}

#[test]
fn a_plan_keeps_to_its_memory() {
    let gb = 1_000_000_000;
    let plan_of = |gguf, device, limit| plan(&full(gguf), device, limit).unwrap();
    let kinds = |plan: &MemoryPlan| plan.stages.iter().map(|s| s.device).collect::<Vec<_>>();
    use DeviceKind::{Cpu, Cuda};
    // With plenty of memory nothing moves.
    let large = plan_of(false, Cuda, Some(48 * gb));
    assert!(large.stays && kinds(&large) == [Cuda; 4]);
    assert_eq!(large.target(PanelTask::Write), (Cuda, Precision::F16));
    // On 8 GB a quantised language model works on the CPU, and the rest stays.
    let small = plan_of(true, Cuda, Some(8 * gb));
    assert!(small.stays && small.peak(Cuda).0 <= 8 * gb);
    assert_eq!(kinds(&small), [Cuda, Cpu, Cuda, Cuda]);
    assert_eq!(small.target(PanelTask::Write), (Cpu, Precision::F32));
    let language = &small.stages[1].parts[0];
    assert_eq!(language.precision, Precision::Quantised);
    assert_eq!(language.bytes, 4_080_000_000);
    // With less, parts leave.
    let tight = plan_of(true, Cuda, Some(6 * gb));
    assert!(!tight.stays && tight.peak(Cuda).0 <= 6 * gb);
    // With still less, what does not fit alone is drawn on the CPU, both stages of it.
    let least = plan_of(true, Cuda, Some(3 * gb));
    assert_eq!(kinds(&least), [Cuda, Cpu, Cpu, Cpu]);
    // A language model of 16-bit floats leaves 18 GB before the UNet comes.
    let turns = plan_of(false, Cuda, Some(18 * gb));
    assert!(!turns.stays && kinds(&turns) == [Cuda; 4]);
    assert!(turns.to_string().contains("parts leave cuda"), "{turns}");
    // On the CPU it fits into 24 GB held in half the width, and not into 12.
    let halved = plan_of(false, Cpu, Some(24 * gb));
    assert_eq!(halved.target(PanelTask::Write), (Cpu, Precision::F16));
    assert_eq!(halved.target(PanelTask::Draw), (Cpu, Precision::F32));
    let message = plan(&full(false), Cpu, Some(12 * gb)).unwrap_err();
    let message = message.to_string();
    assert!(
        message.contains("writing text") && message.contains("GGUF"),
        "{message}"
    );
    // A quantised one takes turns with the rest on 8 GB.
    let cpu = plan_of(true, Cpu, Some(8 * gb));
    assert!(!cpu.stays && cpu.peak(Cpu).0 <= 8 * gb);
}

#[test]
fn the_file_of_parts_may_say_how_much_memory_there_is() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, models) = (temp.path().join("tiny"), temp.path().join("models"));
    copy(&fixture(), &dir);
    fs::create_dir(&models).unwrap();
    let parts = || find(&dir).unwrap().choose(&dir, &Default::default());
    add(&dir, &parts().unwrap(), &models).unwrap();
    let path = dir.join(PARTS_FILE);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("memory = \"8GB\"\n{text}")).unwrap();
    assert_eq!(PartPaths::read(&dir).unwrap().memory(), Some(8_000_000_000));
    // Adding the folder again keeps it.
    add(&dir, &parts().unwrap(), &models).unwrap();
    assert_eq!(PartPaths::read(&dir).unwrap().memory(), Some(8_000_000_000));
    fs::write(&path, format!("memory = \"much\"\n{text}")).unwrap();
    let message = PartPaths::read(&dir).unwrap_err().to_string();
    assert!(message.contains("memory: give an amount"), "{message}");
}

/// Weights held in f16 compute in f32 what the f32 ones do, but for their own rounding.
#[test]
fn parts_held_in_f16_compute_what_they_do_in_f32() {
    let dir = fixture();
    let parts = find(&dir).unwrap().choose(&dir, &Default::default());
    let published = Published::open(parts.unwrap()).unwrap();
    let listener: LoadListener = Arc::new(|_| {});
    let target = |held| LoadTarget {
        device: Device::Cpu,
        held,
        gpu: None,
    };
    let (wide, half) = (target(DType::F32), target(DType::F16));
    let off = |a: &Tensor, b: &Tensor| {
        let largest = |t: &Tensor| {
            t.abs()
                .unwrap()
                .max_all()
                .unwrap()
                .to_scalar::<f32>()
                .unwrap()
        };
        assert_eq!((a.dtype(), b.dtype()), (DType::F32, DType::F32));
        largest(&(a - b).unwrap()) / largest(a)
    };
    let size = published.sizes.vision.image_size;
    let picture = noise(1, 0, &[1, size, size, 3], &Device::Cpu).unwrap();
    let see = |target| {
        published
            .read_tower(target, &listener)
            .unwrap()
            .forward(&picture)
            .unwrap()
    };
    let tower = off(&see(&wide), &see(&half));
    let write = |target| {
        let language = published.read_language(target, &listener).unwrap();
        let read = language.llama.embed_ids(&[5, 300, 601, 9]).unwrap();
        let states = language.llama.forward(&read, None).unwrap();
        language.mapper.forward(&states).unwrap()
    };
    let language = off(&write(&wide), &write(&half));
    let draw = |target| {
        let painter = published.read_diffusion(target, &listener).unwrap();
        let latents = noise(2, 0, &[1, 16, 16, 4], &Device::Cpu).unwrap();
        let width = painter.unet.config().cross_attention_dim;
        let text = noise(3, 0, &[1, 7, width], &Device::Cpu).unwrap();
        let time = Tensor::new(&[400f32], &Device::Cpu).unwrap();
        let answer = painter.unet.forward(&latents, &time, &text, None).unwrap();
        painter.decode(&(answer * 0.18215).unwrap()).unwrap()
    };
    let painter = off(&draw(&wide), &draw(&half));
    for (what, off) in [
        ("tower", tower),
        ("language", language),
        ("painter", painter),
    ] {
        // An f16 keeps 11 bits; a few layers add their roundings up.
        assert!(off > 0.0 && off < 0.01, "{what} is off by {off}");
    }
}
