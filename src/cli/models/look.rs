//! `vokenboard models identify` and `scan`.

use std::ops::ControlFlow;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use crate::catalogue::{self, Added, ScannedFile};
use crate::weights::{Identity, WeightsError, WeightsKind};

#[derive(Debug, Args)]
pub(super) struct IdentifyArgs {
    /// A file or folder
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ScanArgs {
    /// A folder of models
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Add everything that can be used
    #[arg(long)]
    add: bool,
    /// One JSON object per model
    #[arg(long)]
    json: bool,
}

pub(super) fn identify(args: &IdentifyArgs, json: bool) -> anyhow::Result<()> {
    let identity = catalogue::identify(&args.path)?;
    if args.json || json {
        let mut value = serde_json::to_value(&identity)?;
        value["path"] = json!(args.path.to_string_lossy());
        println!("{value}");
        return Ok(());
    }
    println!("{}: {}", args.path.display(), catalogue::line(&identity));
    println!("  {}", verdict(&identity));
    println!("  told by: {}", identity.why);
    for note in &identity.notes {
        println!("  {note}");
    }
    Ok(())
}

/// Whether it can be used, and as what.
fn verdict(identity: &Identity) -> String {
    if catalogue::enlarges(identity) {
        return identity.instead.clone().unwrap_or_default();
    }
    let used = match identity.is {
        _ if !identity.supported => "it cannot be used here",
        WeightsKind::Model => "it draws the pictures of a story",
        WeightsKind::LanguageModel => "it writes the words of a story",
        WeightsKind::Projector => "it lets a language model see pictures",
        WeightsKind::Storyteller => "it tells stories",
        WeightsKind::Lora => "it changes how a picture model draws",
        WeightsKind::Vae => "it takes the place of a picture model's own",
        WeightsKind::Embedding => "it gives a picture model a new word",
        WeightsKind::Controlnet => "it makes a picture follow another one",
        WeightsKind::IpAdapter | WeightsKind::ImageEncoder => {
            "it lets a picture model see reference pictures"
        }
        WeightsKind::Component | WeightsKind::Refused => "it cannot be used here",
    };
    match (&identity.instead, identity.supported) {
        (Some(instead), false) => format!("{used}; {instead}"),
        _ => used.to_string(),
    }
}

/// One line for what was added.
pub(super) fn added(added: &Added) -> String {
    let manifest = &added.model.manifest;
    let id = &manifest.id;
    let how = match manifest.identity.as_ref().map(|identity| identity.is) {
        Some(WeightsKind::LanguageModel) => format!("tell a story with --writer {id}"),
        Some(WeightsKind::Model | WeightsKind::Storyteller) | None => {
            format!("tell a story with --model {id}")
        }
        Some(_) => format!("name it {id}"),
    };
    let what = match &manifest.identity {
        Some(identity) => catalogue::line(identity),
        None => manifest.name.clone(),
    };
    let notes = manifest
        .identity
        .iter()
        .flat_map(|identity| &identity.notes);
    let notes: String = notes.map(|note| format!("; {note}")).collect();
    let what = match &manifest.projector {
        Some(projector) => format!("{what}, sees pictures with {}", projector.path),
        None => what,
    };
    let parts: Vec<&str> = manifest
        .parts
        .iter()
        .map(|part| part.path.as_str())
        .collect();
    let what = match parts.is_empty() {
        true => what,
        false => format!("{what}, with {}", parts.join(" and ")),
    };
    let before = if added.again {
        " (it was there before)"
    } else {
        ""
    };
    format!("added {id}{before}: {what}; {how}{notes}")
}

pub(super) fn scan(
    args: &ScanArgs,
    json: bool,
    models: impl FnOnce() -> Result<PathBuf, WeightsError>,
) -> anyhow::Result<()> {
    let json = args.json || json;
    let models = args.add.then(models).transpose()?;
    let (mut usable, mut others, mut broken) = (0, 0, 0);
    catalogue::scan(&args.dir, &mut |found| {
        match &found.identity {
            Ok(identity) if identity.supported => usable += 1,
            Ok(_) => others += 1,
            Err(_) => broken += 1,
        }
        print_found(&found, json);
        let usable = found
            .identity
            .as_ref()
            .is_ok_and(|identity| identity.supported);
        if let (Some(models), true) = (&models, usable) {
            match catalogue::add(&found.path, found.name.as_deref(), None, models) {
                Ok(new) => eprintln!("{}", added(&new)),
                Err(error) => eprintln!("vokenboard: {error}"),
            }
        }
        ControlFlow::Continue(())
    })?;
    eprintln!("{usable} that can be used, {others} that cannot, {broken} that cannot be read");
    Ok(())
}

fn print_found(found: &ScannedFile, json: bool) {
    let path = found.path.to_string_lossy();
    if json {
        let value = match &found.identity {
            Ok(identity) => {
                let mut value = serde_json::to_value(identity).unwrap_or_default();
                value["path"] = json!(path);
                value["name"] = json!(found.name);
                value
            }
            Err(error) => json!({"path": path, "name": found.name, "error": error.to_string()}),
        };
        println!("{value}");
        return;
    }
    let named = found
        .name
        .as_ref()
        .map_or(String::new(), |name| format!(" ({name})"));
    match &found.identity {
        Ok(identity) => println!(
            "{:<14} {path}{named}: {}",
            identity.is.name(),
            catalogue::line(identity)
        ),
        Err(error) => println!("{:<14} {error}", "unreadable"),
    }
}
