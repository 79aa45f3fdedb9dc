//! A run's whole state in one file, renamed into place, so that a kill at any moment loses at most
//! the steps since the last one.

use super::optimizer::AdamW;
use super::{Result, TrainError, write_whole};
use crate::cause::Cause;
use crate::story::Project;
use candle_core::{Device, Tensor};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The checkpoint file of a run folder.
pub fn path(run: &Path) -> PathBuf {
    run.join("checkpoint.safetensors")
}

/// Whether a run may begin in a folder: a new or an empty one. One that is there already is only
/// gone on with when that is wanted.
///
/// # Errors
/// [`TrainError::Exists`] where it is not; [`TrainError::NotARun`] where somebody else's files are
/// in the folder, some of which might have the names of a run's.
pub fn may_begin(run: &Path, resume: bool) -> Result<()> {
    if path(run).exists() {
        return match resume {
            true => Ok(()),
            false => Err(TrainError::Exists(run.to_owned())),
        };
    }
    // One that was stopped before its first checkpoint has its log.
    match super::log::path(run).exists() || Project::is_empty(run).unwrap_or(true) {
        true => Ok(()),
        false => Err(TrainError::NotARun(run.to_owned())),
    }
}

/// Opens a run folder: a new one, or one that is gone on with.
///
/// # Errors
/// As [`may_begin`], or a saved state that does not fit.
pub fn open(run: &Path, resume: bool, opt: &mut AdamW) -> Result<()> {
    may_begin(run, resume)?;
    load(run, opt)?;
    Ok(())
}

/// Saves parameters, both moments, the moving average and the number of steps.
pub fn save(run: &Path, opt: &AdamW) -> Result<()> {
    let mut tensors = Vec::with_capacity(4 * opt.vars().len() + 1);
    for ((name, var), m) in opt.vars().iter().zip(&opt.moments) {
        let like = |v: &[f32]| Tensor::from_slice(v, var.shape(), &Device::Cpu);
        tensors.push((format!("w.{name}"), var.to_device(&Device::Cpu)?));
        tensors.push((format!("m.{name}"), like(&m.m)?));
        tensors.push((format!("v.{name}"), like(&m.v)?));
        tensors.push((format!("e.{name}"), like(&m.ema)?));
        let steps = Tensor::new(m.steps as i64, &Device::Cpu)?;
        tensors.push((format!("n.{name}"), steps));
    }
    tensors.push(("step".into(), Tensor::new(opt.step as i64, &Device::Cpu)?));
    let file = path(run);
    let bytes = safetensors::serialize(tensors, None)
        .map_err(|e| TrainError::Write(file.clone(), e.into()))?;
    write_whole(&file, &bytes)
}

/// Puts a saved state back; `false` when the run has none yet.
pub fn load(run: &Path, opt: &mut AdamW) -> Result<bool> {
    let file = path(run);
    if !file.exists() {
        return Ok(false);
    }
    let bad = |why: Cause| TrainError::Checkpoint(file.clone(), why);
    let saved: HashMap<String, Tensor> =
        candle_core::safetensors::load(&file, &Device::Cpu).map_err(|e| bad(e.into()))?;
    let get = |kind: &str, name: &str| {
        let key = format!("{kind}.{name}");
        saved
            .get(&key)
            .ok_or_else(|| bad(format!("{key} is missing").into()))
    };
    let step = saved
        .get("step")
        .ok_or_else(|| bad("step is missing".into()))?;
    let names: Vec<_> = opt.vars().to_vec();
    for ((name, var), m) in names.iter().zip(&mut opt.moments) {
        let w = get("w", name)?;
        if w.dims() != var.dims() {
            let why = format!(
                "{name} has shape {:?}, the configuration says {:?}",
                w.dims(),
                var.dims()
            );
            return Err(bad(why.into()));
        }
        var.set(&w.to_device(var.device())?)?;
        m.m = get("m", name)?.flatten_all()?.to_vec1()?;
        m.v = get("v", name)?.flatten_all()?.to_vec1()?;
        m.ema = get("e", name)?.flatten_all()?.to_vec1()?;
        // Runs from before this was kept had a gradient for everything in every step.
        let steps = saved.get(&format!("n.{name}")).unwrap_or(step);
        m.steps = steps.to_scalar::<i64>()? as u64;
    }
    opt.step = step.to_scalar::<i64>()? as u64;
    Ok(true)
}
