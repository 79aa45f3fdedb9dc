//! Names, types and shapes of a file's tensors, which is all that tells what a file is.

use std::collections::BTreeMap;
use std::ops::Bound;

/// A tensor without its numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderTensor {
    /// safetensors' or ggml's name of its type, such as `F16` or `Q4_K`.
    pub dtype: String,
    /// Rows before columns, as PyTorch has them.
    pub shape: Vec<usize>,
    /// Bytes of its numbers as they are stored.
    pub bytes: u64,
}

impl HeaderTensor {
    /// How many numbers it holds.
    pub fn count(&self) -> u64 {
        let sizes = self.shape.iter().map(|&size| size as u64);
        sizes.fold(1, u64::saturating_mul)
    }
}

/// The tensors of a file by name, and its metadata.
#[derive(Clone, Debug, Default)]
pub struct HeaderTensors {
    /// Type, shape and size of each tensor, by name.
    pub map: BTreeMap<String, HeaderTensor>,
    /// Key-value pairs of the header.
    pub metadata: BTreeMap<String, String>,
}

impl HeaderTensors {
    /// Names of all tensors, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.map.keys().map(String::as_str)
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.map.contains_key(name)
    }

    /// Whether a name begins with `prefix`.
    pub fn has_prefix(&self, prefix: &str) -> bool {
        self.first_with_prefix(prefix).is_some()
    }

    /// The first name that begins with `prefix`, in alphabetical order.
    pub fn first_with_prefix(&self, prefix: &str) -> Option<&str> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let (name, _) = self.map.range::<str, _>(from).next()?;
        name.starts_with(prefix).then_some(name)
    }

    /// The tensors whose names begin with `prefix`, in order of names, each with what follows it.
    pub fn after_prefix<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a HeaderTensor)> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let held = self.map.range::<str, _>(from);
        held.map_while(move |(name, info)| Some((name.strip_prefix(prefix)?, info)))
    }

    /// Whether a name contains `part`.
    pub fn has_part(&self, part: &str) -> bool {
        self.names().any(|name| name.contains(part))
    }

    /// Sizes of a tensor's axes; `None` where there is none of that name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.map.get(name).map(|info| &info.shape[..])
    }

    /// One extent of a tensor's shape.
    pub fn dim(&self, name: &str, axis: usize) -> Option<usize> {
        self.shape(name)?.get(axis).copied()
    }

    /// The first tensor, in order of names, whose name `fits`.
    pub fn find(&self, fits: impl Fn(&str) -> bool) -> Option<(&str, &HeaderTensor)> {
        let found = self.map.iter().find(|(name, _)| fits(name));
        found.map(|(name, info)| (name.as_str(), info))
    }

    /// One more than the highest number that follows `prefix` in a name: how many blocks there are.
    pub fn blocks(&self, prefix: &str) -> usize {
        let numbers = self
            .after_prefix(prefix)
            .filter_map(|(rest, _)| rest.split('.').next()?.parse::<usize>().ok());
        numbers.max().map_or(0, |last| last.saturating_add(1))
    }

    /// The tensors whose names begin with `prefix`, under their names without it.
    #[must_use]
    pub fn without_prefix(&self, prefix: &str) -> HeaderTensors {
        let held = self.after_prefix(prefix);
        let held = held.map(|(name, info)| (name.to_string(), info.clone()));
        HeaderTensors {
            map: held.collect(),
            metadata: self.metadata.clone(),
        }
    }

    /// `name [sizes]`, for messages.
    pub fn describe(&self, name: &str) -> String {
        match self.shape(name) {
            Some(shape) => format!("{name} {shape:?}"),
            None => name.to_string(),
        }
    }

    /// The tensors with what wraps all of them taken away: `module.`, `state_dict.` and the like.
    #[must_use]
    pub fn unwrapped(self) -> HeaderTensors {
        const WRAPPERS: [&str; 6] = [
            "module.",
            "state_dict.",
            "params_ema.",
            "params.",
            "model_state_dict.",
            "_orig_mod.",
        ];
        let mut tensors = self;
        for _ in 0..3 {
            let all = |prefix: &&&str| {
                !tensors.map.is_empty() && tensors.names().all(|name| name.starts_with(**prefix))
            };
            let Some(prefix) = WRAPPERS.iter().find(all) else {
                break;
            };
            tensors = tensors.without_prefix(prefix);
        }
        tensors
    }

    /// Numbers and bytes of all tensors.
    pub fn size(&self) -> (u64, u64) {
        let sizes = self.map.values().map(|info| (info.count(), info.bytes));
        sizes.fold((0, 0), |(n, b), (count, bytes)| {
            (n.saturating_add(count), b.saturating_add(bytes))
        })
    }
}

#[cfg(test)]
pub(super) fn of(list: &[(&str, &[usize])]) -> HeaderTensors {
    let info = |shape: &[usize]| HeaderTensor {
        dtype: "F16".to_string(),
        shape: shape.to_vec(),
        bytes: 2 * shape.iter().product::<usize>() as u64,
    };
    let map = list
        .iter()
        .map(|(name, shape)| ((*name).to_string(), info(shape)));
    HeaderTensors {
        map: map.collect(),
        metadata: BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrappers_are_taken_away_and_blocks_are_counted() {
        let tensors = of(&[
            ("module.state_dict.blocks.0.a", &[1]),
            ("module.state_dict.blocks.11.a", &[2]),
        ]);
        let tensors = tensors.unwrapped();
        assert_eq!(tensors.blocks("blocks."), 12);
        assert_eq!(tensors.dim("blocks.11.a", 0), Some(2));
        assert!(tensors.has_prefix("blocks.1") && !tensors.has_prefix("blocks.2"));
        assert_eq!(
            tensors
                .without_prefix("blocks.")
                .names()
                .collect::<Vec<_>>(),
            ["0.a", "11.a"]
        );
    }
}
