//! Tensors, sizes and texts among the values that a pickle has made.

use std::ops::Range;

use super::{Id, MOST_DIMENSIONS, PickleError, PickleMachine, PickleValue, StorageView, damaged};

impl PickleMachine<'_> {
    /// `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)`.
    pub(super) fn tensor(&self, arguments: &[Id]) -> Result<PickleValue, PickleError> {
        let wrong = || damaged("its pickle has a tensor without storage, size and stride");
        let [storage, offset, shape, strides, ..] = arguments[..] else {
            return Err(wrong());
        };
        let PickleValue::Storage(dtype, key, from) = &self.values[storage] else {
            return Err(wrong());
        };
        let (shape, strides) = (self.sizes(shape)?, self.sizes(strides)?);
        if shape.len() != strides.len() || shape.len() > MOST_DIMENSIONS {
            return Err(wrong());
        }
        Ok(PickleValue::Tensor(Box::new(StorageView {
            dtype: *dtype,
            key: self.slice(key).to_owned(),
            offset: from.checked_add(self.size(offset)?).ok_or_else(wrong)?,
            shape,
            strides,
        })))
    }

    pub(super) fn sizes(&self, id: Id) -> Result<Vec<usize>, PickleError> {
        match &self.values[id] {
            PickleValue::Tuple(items) if items.len() <= MOST_DIMENSIONS => {
                items.iter().map(|&item| self.size(item)).collect()
            }
            _ => Err(damaged(
                "its pickle has a tensor whose size is no short tuple",
            )),
        }
    }

    pub(super) fn size(&self, id: Id) -> Result<usize, PickleError> {
        let size = match self.values[id] {
            PickleValue::Int(number) => usize::try_from(number).ok(),
            _ => None,
        };
        size.ok_or_else(|| damaged("its pickle has a tensor whose size is no whole number"))
    }

    pub(super) fn slice(&self, range: &Range<usize>) -> &str {
        // Was checked to be UTF-8 when it was read.
        std::str::from_utf8(&self.pickle[range.clone()]).unwrap_or_default()
    }

    pub(super) fn as_text(&self, id: Id) -> Result<&str, PickleError> {
        match &self.values[id] {
            PickleValue::Text(range) => Ok(self.slice(range)),
            _ => Err(damaged("its pickle has another value where a name belongs")),
        }
    }

    pub(super) fn named_tensors(
        &self,
        root: Id,
    ) -> Result<Vec<(String, StorageView)>, PickleError> {
        let dict = |id: Id| match &self.values[id] {
            PickleValue::Dict(entries) => Some(entries),
            _ => None,
        };
        let no_dict = || damaged("its pickle is no dict of tensors");
        let mut entries = dict(root).ok_or_else(no_dict)?;
        for wrapper in [
            "state_dict",
            "model",
            "string_to_param",
            "params_ema",
            "params",
        ] {
            let inner = entries
                .iter()
                .filter(|(key, _)| self.as_text(*key).is_ok_and(|key| key == wrapper))
                .find_map(|&(_, value)| dict(value));
            if let Some(inner) = inner {
                entries = inner;
                break;
            }
        }
        let mut tensors = Vec::new();
        for &(key, value) in entries {
            let Ok(name) = self.as_text(key) else {
                continue;
            };
            match &self.values[value] {
                PickleValue::Tensor(view) => tensors.push((name.to_owned(), (**view).clone())),
                // A dict of tensors for each part, as an IP-Adapter has.
                PickleValue::Dict(part) => {
                    for &(key, value) in part {
                        if let (Ok(key), PickleValue::Tensor(view)) =
                            (self.as_text(key), &self.values[value])
                        {
                            tensors.push((format!("{name}.{key}"), (**view).clone()));
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(tensors)
    }
}
