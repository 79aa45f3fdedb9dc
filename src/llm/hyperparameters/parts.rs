//! What families have in part: experts, windows and scalings of positions.

use super::keys::Keys;
use super::{Experts, RopeScaling};
use crate::llm::families::{ModelFamily, SlidingWindow};
use crate::weights::GgufValue;

/// The experts of a mixture, where there is one.
pub(super) fn experts(keys: &Keys, family: &ModelFamily) -> Result<Option<Experts>, String> {
    let count = keys.number("expert_count")?.filter(|count| *count != 0.0);
    let Some(count) = count else {
        return match family.experts {
            true => Err(format!(
                "it does not say {}.expert_count",
                keys.architecture
            )),
            false => Ok(None),
        };
    };
    if !family.experts {
        let name = keys.architecture;
        return Err(format!(
            "its {name}.expert_count is {count}, and mixtures of experts are not read with this architecture"
        ));
    }
    // llama.cpp's 2 is a sigmoid; 1 and 3 are softmax before and after the choice.
    let gating = keys.number("expert_gating_func")?.unwrap_or(0.0);
    if ![0.0, 1.0, 3.0].contains(&gating) {
        let name = keys.architecture;
        return Err(format!(
            "its {name}.expert_gating_func is {gating}, which is not read here"
        ));
    }
    if keys.number("expert_weights_norm")? == Some(0.0) {
        let name = keys.architecture;
        return Err(format!(
            "its {name}.expert_weights_norm is false, which is not read here"
        ));
    }
    let count = keys.whole("expert_count", count, 1 << 12)?;
    Ok(Some(Experts {
        count,
        used: keys.needed("expert_used_count", count)?,
        inner: match keys.count("expert_feed_forward_length", 1 << 20)? {
            Some(inner) => inner,
            None => keys.needed("feed_forward_length", 1 << 20)?,
        },
    }))
}

/// The window of each layer.
pub(super) fn windows(
    keys: &Keys,
    family: &ModelFamily,
    layers: usize,
    trained: usize,
) -> Result<Vec<Option<usize>>, String> {
    const KEY: &str = "attention.sliding_window";
    const PATTERN: &str = "attention.sliding_window_pattern";
    let window = keys.number(KEY)?.filter(|window| *window != 0.0);
    let Some(window) = window else {
        return match family.windows {
            SlidingWindow::AllButEvery(_) => {
                Err(format!("it does not say {}.{KEY}", keys.architecture))
            }
            _ => Ok(vec![None; layers]),
        };
    };
    let window = keys.whole(KEY, window, 1 << 30)?;
    if window >= trained {
        return Ok(vec![None; layers]);
    }
    let every = match (keys.value(PATTERN), family.windows) {
        (Some(GgufValue::Bools(seen)), _) if seen.len() == layers => {
            return Ok(seen.iter().map(|local| local.then_some(window)).collect());
        }
        (Some(GgufValue::Wholes(seen)), _) if seen.len() == layers => {
            return Ok(seen
                .iter()
                .map(|local| (*local != 0).then_some(window))
                .collect());
        }
        (Some(_), _) => keys.needed(PATTERN, 1 << 10)?,
        (None, SlidingWindow::All) => usize::MAX,
        (None, SlidingWindow::AllButEvery(n)) => n,
        (None, SlidingWindow::Unknown) => {
            return Err(format!(
                "its {}.{KEY} is {window}, and windows are not read with this architecture",
                keys.architecture
            ));
        }
    };
    Ok((1..=layers)
        .map(|i| (i % every != 0).then_some(window))
        .collect())
}

/// How frequencies are scaled, and what cosines and sines are multiplied with.
pub(super) fn rope_scaling(
    keys: &Keys,
    family: &ModelFamily,
) -> Result<(RopeScaling, f32), String> {
    const KEY: &str = "rope.scaling.type";
    let kind = match keys.value(KEY) {
        None => None,
        Some(GgufValue::String(kind)) => Some(kind.as_str()),
        Some(_) => return Err(format!("its {}.{KEY} is no name", keys.architecture)),
    };
    let factor = match keys.positive("rope.scaling.factor")? {
        Some(factor) => Some(factor),
        None => keys.number("rope.scale_linear")?.filter(|n| *n > 0.0),
    };
    let own = keys.positive("rope.scaling.attn_factor")?;
    if own.is_some_and(|own| own != 1.0) && !family.long_factors && kind != Some("yarn") {
        let name = keys.architecture;
        return Err(format!(
            "its {name}.rope.scaling.attn_factor is not read with this architecture"
        ));
    }
    let own = own.unwrap_or(1.0);
    let scaling = match kind {
        Some("none") => RopeScaling::None,
        None | Some("linear") => match factor {
            Some(factor) if factor != 1.0 => RopeScaling::Linear(factor),
            _ => RopeScaling::None,
        },
        Some("longrope") if family.long_factors => RopeScaling::None,
        Some("yarn") => {
            let missing = || format!("it does not say {}.rope.scaling.factor", keys.architecture);
            let factor = factor.ok_or_else(missing)?;
            let original = keys.needed("rope.scaling.original_context_length", 1 << 30)?;
            let beta = |key: &str, usual: f64| keys.positive(key).map(|beta| beta.unwrap_or(usual));
            let scaling = RopeScaling::Yarn {
                factor,
                original,
                fast: beta("rope.scaling.yarn_beta_fast", 32.0)?,
                slow: beta("rope.scaling.yarn_beta_slow", 1.0)?,
            };
            let magnitude = own * (0.1 * factor.ln() + 1.0);
            return Ok((scaling, magnitude as f32));
        }
        Some(kind) => {
            return Err(format!(
                "its {}.{KEY} is {kind}, a scaling of positions that is not read here",
                keys.architecture
            ));
        }
    };
    Ok((scaling, own as f32))
}
