//! Settings of a configuration file that we do not read: what changes nothing passes, everything
//! else is refused by name.

use crate::nn;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::BTreeMap;

/// The settings of a file that have no field of ours.
pub(super) type UnknownSettings = BTreeMap<String, Value>;

/// Reads the settings that have no field; those that begin with `_` say who wrote the file.
pub(super) fn read_others<'de, D: Deserializer<'de>>(file: D) -> Result<UnknownSettings, D::Error> {
    let mut others = UnknownSettings::deserialize(file)?;
    others.retain(|name, _| !name.starts_with('_'));
    Ok(others)
}

/// Checks what `part` is told beyond what we read. Absent, empty and switched-off settings pass, as
/// do those in `inert`, which change no result, and those in `neutral` with the value given there
/// as JSON.
///
/// # Errors
/// One sentence naming the first setting that is left.
pub(super) fn refuse(
    part: &str,
    others: &UnknownSettings,
    neutral: &[(&str, &str)],
    inert: &[&str],
) -> nn::Result<()> {
    for (name, value) in others {
        let off = matches!(value, Value::Null | Value::Bool(false));
        let usual = || {
            neutral
                .iter()
                .any(|(known, usual)| known == name && same(value, usual))
        };
        if off || inert.contains(&name.as_str()) || usual() {
            continue;
        }
        candle_core::bail!("{part}'s {name} is {value}, which isn't supported");
    }
    Ok(())
}

/// Whether `value` is the JSON `usual`, numbers by their value and lists element by element.
fn same(value: &Value, usual: &str) -> bool {
    let Ok(usual) = serde_json::from_str::<Value>(usual) else {
        return false;
    };
    let one = |value: &Value| match (value.as_f64(), usual.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => *value == usual,
    };
    match value {
        Value::Array(values) => values.iter().all(one),
        value => one(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        #[serde(flatten, deserialize_with = "read_others")]
        others: UnknownSettings,
    }

    #[test]
    fn what_would_change_the_result_is_named() {
        let others = |json: &str| serde_json::from_str::<File>(json).unwrap().others;
        let check = |json: &str| refuse("the UNet", &others(json), &[("scale", "1")], &["note"]);
        check(r#"{"_name": "x", "gate": null, "twice": false, "scale": 1.0, "note": 5}"#).unwrap();
        let message = check(r#"{"scale": 0.5}"#).unwrap_err().to_string();
        assert!(message.contains("the UNet's scale is 0.5"), "{message}");
        assert!(check(r#"{"gate": "new"}"#).is_err());
    }
}
