//! Weights that are damaged, wrong or meant to harm: each is one sentence, never a panic, and
//! nothing is written.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use candle_core::{DType, Device, Tensor};
use vokenboard::diffusion::ModelFolder;
use vokenboard::published::{self, PartPaths};
use vokenboard::weights::Checkpoint;

/// A copy of the public fixture, and an empty folder of models.
struct Folder {
    temp: tempfile::TempDir,
}

impl Folder {
    fn new() -> Folder {
        let temp = tempfile::tempdir().unwrap();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/public/checkpoint");
        copy(&from, &temp.path().join("weights"));
        fs::create_dir(temp.path().join("models")).unwrap();
        Folder { temp }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join("weights").join(name)
    }

    fn command(&self, what: &str) -> Command {
        let mut command = Command::cargo_bin("vokenboard").unwrap();
        command.env(
            "VOKENBOARD_DATA",
            concat!(env!("CARGO_TARGET_TMPDIR"), "/data"),
        );
        command
            .args(["models", what])
            .arg(self.path(""))
            .env("VOKENBOARD_MODELS", self.temp.path().join("models"));
        command
    }

    /// What `models add` says on stdout, and the one sentence on stderr.
    fn refused(&self) -> (String, String) {
        let output = self.command("add").assert().code(1).get_output().clone();
        let (out, error) = (text(&output.stdout), text(&output.stderr));
        assert!(error.starts_with("vokenboard: "), "{error}");
        assert_eq!(error.trim_end().lines().count(), 1, "{error}");
        assert!(!self.path(published::PARTS_FILE).exists());
        assert!(!self.path("manifest.json").exists());
        (out, error)
    }

    /// Rewrites a safetensors file.
    fn change(&self, name: &str, change: impl FnOnce(&mut HashMap<String, Tensor>)) {
        let path = self.path(name);
        let mut tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
        change(&mut tensors);
        candle_core::safetensors::save(&tensors, &path).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &to),
            // Not `fs::copy`, which would keep a read-only file read-only.
            false => fs::write(&to, fs::read(&path).unwrap()).unwrap(),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const UNET: &str = "sd/unet/diffusion_pytorch_model.safetensors";

#[test]
fn a_whole_folder_is_added_listed_and_planned() {
    let folder = Folder::new();
    let added = folder.command("add").assert().success();
    let out = text(&added.get_output().stdout);
    assert!(out.contains("added weights"), "{out}");
    // What the reference ignores is told as extra.
    assert!(out.contains("extra, not read: blocks.3."), "{out}");
    let mut list = Command::cargo_bin("vokenboard").unwrap();
    list.env(
        "VOKENBOARD_DATA",
        concat!(env!("CARGO_TARGET_TMPDIR"), "/data"),
    );
    list.args(["models", "--json", "--verify"]);
    list.env("VOKENBOARD_MODELS", folder.temp.path().join("models"));
    let list = text(&list.assert().success().get_output().stdout);
    assert!(list.contains("\"pipeline\":\"voken\""), "{list}");
    let parts = PartPaths::read(&folder.path("")).unwrap();
    assert_eq!(parts.sizes, Some(folder.path("tiny_config.json")));

    let mut plan = folder.command("plan");
    plan.args(["--device", "cuda", "--memory", "8GB"]);
    let plan = text(&plan.assert().success().get_output().stdout);
    for part in ["language model", "UNet", "f16", "peak on cuda", "of 8.0 GB"] {
        assert!(plan.contains(part), "{plan}");
    }
    let mut small = folder.command("plan");
    small.args(["--device", "cpu", "--memory", "100kB"]);
    small.assert().code(1);
}

#[test]
fn a_truncated_file_is_named() {
    for (name, why) in [
        ("eva_vit_g.pth", "zip directory"),
        ("stage2_vist.ckpt", "zip directory"),
        (UNET, "is damaged"),
        ("llama/model.safetensors", "is damaged"),
        ("llama/tokenizer.model", "SentencePiece"),
    ] {
        let folder = Folder::new();
        let path = folder.path(name);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let (_, error) = folder.refused();
        let file = path.file_name().unwrap().to_str().unwrap();
        assert!(error.contains(file) && error.contains(why), "{error}");
    }
}

#[test]
fn wrong_shapes_and_missing_tensors_are_named_before_anything_is_loaded() {
    let folder = Folder::new();
    folder.change(UNET, |tensors| {
        let bias = tensors.remove("conv_in.bias").unwrap();
        let half = bias.narrow(0, 0, bias.dim(0).unwrap() / 2).unwrap();
        tensors.insert("conv_in.bias".to_string(), half.contiguous().unwrap());
        tensors.remove("conv_out.weight").unwrap();
    });
    let (out, error) = folder.refused();
    assert!(out.contains("missing: conv_out.weight"), "{out}");
    assert!(out.contains("conv_in.bias has shape"), "{out}");
    assert!(error.contains("is not a model that can be used"), "{error}");
    let error = ModelFolder::new(folder.path("sd")).read_unet(&Device::Cpu);
    let error = error.err().unwrap().to_string();
    assert!(error.contains("conv_in.bias has shape"), "{error}");
}

#[test]
fn a_nan_among_the_weights_is_found_when_they_are_loaded() {
    let folder = Folder::new();
    folder.change(UNET, |tensors| {
        let bias = tensors.remove("conv_in.bias").unwrap();
        let nan = (bias * f64::NAN).unwrap();
        tensors.insert("conv_in.bias".to_string(), nan);
    });
    let error = ModelFolder::new(folder.path("sd")).read_unet(&Device::Cpu);
    let error = error.err().unwrap().to_string();
    assert!(error.contains("NaN or infinity in conv_in.bias"), "{error}");
    assert!(
        error.contains("diffusion_pytorch_model.safetensors"),
        "{error}"
    );
    assert_eq!(error.matches("; ").count(), 1, "{error}");
    // The last storage of a checkpoint ends right before the directory's first entry.
    let path = folder.path("minigpt4.pth");
    let whole = Checkpoint::open(&path).unwrap();
    let name = "llama_proj.bias";
    let bias = whole
        .tensor(name, DType::F32, &Device::Cpu)
        .unwrap()
        .to_vec1::<f32>()
        .unwrap();
    drop(whole);
    let mut bytes = fs::read(&path).unwrap();
    let pattern: Vec<u8> = bias[..4].iter().flat_map(|n| n.to_le_bytes()).collect();
    let at = bytes
        .windows(16)
        .position(|window| window == pattern)
        .unwrap();
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&path, bytes).unwrap();
    let broken = Checkpoint::open(&path).unwrap();
    let error = broken
        .tensor(name, DType::F32, &Device::Cpu)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("minigpt4.pth holds NaN or infinity in llama_proj.bias"),
        "{error}"
    );
}

#[test]
fn a_pickle_that_calls_os_system_is_refused_by_name() {
    let folder = Folder::new();
    let path = folder.path("eva_vit_g.pth");
    let trace = folder.path("was_here");
    let mut bytes = fs::read(&path).unwrap();
    // The pickle comes first in the file; its length in the zip stays what it was.
    let start = bytes
        .windows(2)
        .position(|window| window == [0x80, 2])
        .unwrap();
    let mut harm = b"\x80\x02cposix\nsystem\nq\x00X".to_vec();
    let call = format!("touch {}", trace.display());
    harm.extend((call.len() as u32).to_le_bytes());
    harm.extend(call.as_bytes());
    harm.extend(b"q\x01\x85q\x02Rq\x03.");
    bytes[start..start + harm.len()].copy_from_slice(&harm);
    fs::write(&path, bytes).unwrap();
    let (_, error) = folder.refused();
    assert!(
        error.contains("eva_vit_g.pth holds the Python object posix.system"),
        "{error}"
    );
    assert!(!trace.exists());
}

#[test]
fn a_header_of_impossible_length_is_refused() {
    let folder = Folder::new();
    let mut bytes = (1u64 << 60).to_le_bytes().to_vec();
    bytes.extend(b"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}");
    fs::write(folder.path(UNET), bytes).unwrap();
    let (_, error) = folder.refused();
    assert!(
        error.contains("diffusion_pytorch_model.safetensors is damaged"),
        "{error}"
    );
}

#[cfg(unix)]
#[test]
fn links_that_lead_in_circles_end() {
    use std::os::unix::fs::symlink;

    let folder = Folder::new();
    // A folder that holds itself is looked at once.
    symlink(folder.path(""), folder.path("again")).unwrap();
    folder.command("add").assert().success();

    let folder = Folder::new();
    let path = folder.path("eva_vit_g.pth");
    fs::remove_file(&path).unwrap();
    symlink(&path, folder.path("other.pth")).unwrap();
    symlink(folder.path("other.pth"), &path).unwrap();
    let (_, error) = folder.refused();
    assert!(error.contains("eva_vit_g.pth cannot be read"), "{error}");
}

#[test]
fn a_missing_part_says_which_and_how_to_name_it() {
    let folder = Folder::new();
    fs::remove_file(folder.path("stage1_cc3m.ckpt")).unwrap();
    fs::remove_dir_all(folder.path("sd")).unwrap();
    let (_, error) = folder.refused();
    for part in ["Stable Diffusion folder", "stage-1", "--stable-diffusion"] {
        assert!(error.contains(part), "{error}");
    }
}
