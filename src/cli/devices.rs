//! `vokenboard devices`

use clap::Args;
use serde_json::json;

use super::output::JsonArgs;
use crate::nn::gpu::{AdapterInfo, AdapterKind, adapters};
use crate::published::format_bytes;
use crate::weights::{self, DeviceChoice, DeviceKind};

#[derive(Debug, Args)]
pub struct DevicesArgs {
    #[command(flatten)]
    json: JsonArgs,
}

/// Lists what models can be computed on, and what `--device auto` takes.
///
/// # Errors
/// A JSON file that can't be written.
pub(super) fn run(args: &DevicesArgs) -> anyhow::Result<()> {
    args.json.check()?;
    let kinds = DeviceKind::ALL.into_iter().filter(|kind| kind.compiled());
    for kind in kinds {
        match weights::select_device(DeviceChoice::Only(kind)) {
            Ok(place) => println!("{kind:<6} {}", place.name()),
            Err(error) => println!("{kind:<6} {error}"),
        }
    }
    let all = adapters();
    for adapter in &all {
        print_adapter(adapter);
    }
    let place = weights::select_device(DeviceChoice::Auto)?;
    println!("auto   takes {}: {}", place.name(), place.why);
    let listed: Vec<_> = all.iter().map(as_json).collect();
    args.json.write(&json!({
        "gpus": listed, "auto": { "takes": place.name(), "why": place.why },
    }))
}

fn print_adapter(adapter: &AdapterInfo) {
    let number = format!("gpu:{}", adapter.index);
    println!(
        "{number:<6} {}, {}, {}",
        adapter.name, adapter.kind, adapter.backend
    );
    let memory = match adapter.memory {
        Some(bytes) => format!("{} of memory", format_bytes(bytes)),
        None => "memory not told by the driver".to_owned(),
    };
    let shared = match adapter.kind {
        AdapterKind::Discrete => "",
        _ => " shared with the processor",
    };
    println!(
        "       {memory}{shared}; buffers of up to {}",
        format_bytes(adapter.largest_buffer)
    );
    let can = |there: bool, what: &str| match there {
        true => what.to_owned(),
        false => format!("no {what}"),
    };
    let subgroups = match adapter.subgroups {
        Some((least, most)) if least == most => format!("subgroups of {least}"),
        Some((least, most)) => format!("subgroups of {least} to {most}"),
        None => "no subgroups".to_owned(),
    };
    println!(
        "       {}, {subgroups}, {}; {} invocations and {} KiB a workgroup",
        can(adapter.f16, "f16"),
        match adapter.matrix_side {
            Some(side) => format!("cooperative matrices of {side}x{side}"),
            None => "no cooperative matrices".to_owned(),
        },
        adapter.workgroup_size,
        adapter.workgroup_memory / 1024,
    );
    if !adapter.driver.is_empty() {
        println!("       driver {}", adapter.driver);
    }
}

fn as_json(adapter: &AdapterInfo) -> serde_json::Value {
    json!({
        "device": format!("gpu:{}", adapter.index),
        "name": adapter.name,
        "kind": adapter.kind.to_string(),
        "backend": adapter.backend,
        "driver": adapter.driver,
        "memory": adapter.memory,
        "largest_buffer": adapter.largest_buffer,
        "workgroup_memory": adapter.workgroup_memory,
        "workgroup_size": adapter.workgroup_size,
        "f16": adapter.f16,
        "subgroups": adapter.subgroups.map(|(least, most)| [least, most]),
        "cooperative_matrices": adapter.matrix_side,
    })
}
