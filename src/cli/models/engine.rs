//! `vokenboard models add` of an engine elsewhere.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

use crate::catalogue::{self, Added};
use crate::remote::{Address, ApiKey, openai};

/// The word before the address of a ComfyUI.
const COMFYUI: &str = "comfyui";
/// Most bytes of a key.
const KEY: u64 = 64 << 10;

#[derive(Debug, Args)]
pub(super) struct EngineArgs {
    /// Behind `comfyui`: its address, such as http://127.0.0.1:8188
    #[arg(value_name = "ADDRESS")]
    address: Option<String>,
    /// The file that holds the engine's key; - reads it from standard input
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Your own workflow for ComfyUI, exported there by "Export (API)"
    #[arg(long, value_name = "FILE")]
    workflow: Option<PathBuf>,
    /// Which field of the workflow is what, such as prompt=6.text; may be given several times
    #[arg(long, value_name = "INPUT=NODE.FIELD", requires = "workflow")]
    bind: Vec<String>,
}

/// Whether what is to be added is an engine.
pub(super) fn is_one(path: &Path, args: &EngineArgs) -> bool {
    let text = path.to_string_lossy();
    Address::is_one(&text)
        || args.address.is_some()
        || args.workflow.is_some()
        || args.key_file.is_some()
        || text.eq_ignore_ascii_case(COMFYUI) && !path.exists()
}

pub(super) fn add(path: &Path, args: &EngineArgs, models: &Path) -> anyhow::Result<()> {
    let text = path.to_string_lossy();
    let key = args.key_file.as_deref().map(read_key).transpose()?;
    let added = if text.eq_ignore_ascii_case(COMFYUI) {
        let Some(address) = &args.address else {
            bail!("comfyui needs its address behind it, such as http://127.0.0.1:8188");
        };
        let workflow = args.workflow.as_deref();
        let workflow = workflow.map(|path| (path, args.bind.as_slice()));
        catalogue::add_comfy(address, key.as_ref(), workflow, models)?
    } else {
        if args.address.is_some() || args.workflow.is_some() {
            bail!(
                "\"{text}\" takes no second address and no workflow; write `comfyui` before the address of a ComfyUI"
            );
        }
        catalogue::add_endpoint(&text, key.as_ref(), models)?
    };
    for added in &added {
        println!("{}", line(added));
    }
    Ok(())
}

fn line(added: &Added) -> String {
    let manifest = &added.model.manifest;
    let flag = match manifest.pipeline == openai::PIPELINE {
        true => "--writer",
        false => "--model",
    };
    let before = if added.again {
        " (it was there before)"
    } else {
        ""
    };
    let (id, summary) = (&manifest.id, &manifest.summary);
    format!("added {id}{before}: {summary}; tell a story with {flag} {id}")
}

/// Keys are not given on the command line, where every program of the machine can read them.
fn read_key(path: &Path) -> anyhow::Result<ApiKey> {
    let shown = path.display();
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(KEY).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(KEY).read_to_string(&mut text))
    };
    read.with_context(|| format!("the key can't be read from {shown}; name a text file"))?;
    ApiKey::new(&text).with_context(|| format!("{shown} holds no key; put the key alone into it"))
}
