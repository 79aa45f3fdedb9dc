//! How loading is followed: which layer of a part is being read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use candle_core::{Device, Tensor};

use crate::nn::TensorSource;
use crate::weights::TensorView;

/// Callback that gets the layer being read, such as `layer 7 of 32`.
pub type LoadListener = Arc<dyn Fn(&str) + Send + Sync>;

/// Tensors whose reading is told, layer by layer.
pub(super) struct TracedView {
    view: TensorView,
    /// Layers of each kind.
    counts: BTreeMap<String, usize>,
    listener: LoadListener,
    last: Mutex<Option<(String, usize)>>,
}

impl TracedView {
    pub(super) fn new(view: TensorView, listener: LoadListener) -> Self {
        let mut counts = BTreeMap::new();
        for (kind, index) in view.names().filter_map(layer) {
            let count = counts.entry(kind).or_insert(0);
            *count = (index + 1).max(*count);
        }
        Self {
            view,
            counts,
            listener,
            last: Mutex::default(),
        }
    }
}

impl TensorSource for TracedView {
    fn contains(&self, name: &str) -> bool {
        self.view.contains(name)
    }

    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.view.shape(name)
    }

    fn tensor(&self, name: &str, device: &Device) -> candle_core::Result<Tensor> {
        if let Some((kind, index)) = layer(name) {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Some((kind.clone(), index));
            if *last != now {
                let of = self.counts.get(&kind).copied().unwrap_or(index + 1);
                (self.listener)(&format!("{kind} {} of {of}", index + 1));
                *last = now;
            }
        }
        self.view.tensor(name, device)
    }
}

/// The outermost layer that a tensor belongs to: its kind and its number from 0.
fn layer(name: &str) -> Option<(String, usize)> {
    let parts: Vec<&str> = name.split('.').collect();
    parts.windows(2).find_map(|pair| {
        let kind = pair[0].strip_suffix('s').unwrap_or(pair[0]);
        let known = ["layer", "block", "down_block", "up_block"].contains(&kind);
        let index = pair[1].parse().ok().filter(|_| known)?;
        Some((kind.replace('_', " "), index))
    })
}

/// Runs `read` on a thread of its own and calls `listener` on this one for every layer at once.
pub fn read_with_listener<T: Send>(
    report: &mut dyn FnMut(&str),
    read: impl FnOnce(LoadListener) -> T + Send,
) -> T {
    let (sender, receiver) = mpsc::channel::<Option<String>>();
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let layers = sender.clone();
            let listener: LoadListener = Arc::new(move |layer: &str| {
                // Nobody listens any more when this thread's result is waited for.
                let _ = layers.send(Some(layer.to_string()));
            });
            let read = read(listener);
            let _ = sender.send(None);
            read
        });
        while let Ok(Some(layer)) = receiver.recv() {
            report(&layer);
        }
        match reading.join() {
            Ok(read) => read,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_their_layer() {
        let of = |name| layer(name).map(|(kind, index)| format!("{kind} {index}"));
        for (name, said) in [
            ("model.layers.31.mlp.up_proj.weight", Some("layer 31")),
            ("blocks.0.attn.qkv.weight", Some("block 0")),
            ("down_blocks.2.resnets.1.conv1.weight", Some("down block 2")),
            (
                "Qformer.bert.encoder.layer.5.output.dense.bias",
                Some("layer 5"),
            ),
            ("conv_in.weight", None),
            ("fc.2.weight", None),
        ] {
            assert_eq!(of(name).as_deref(), said, "{name}");
        }
    }

    #[test]
    fn what_is_read_elsewhere_is_heard_here_in_order() {
        let mut heard = Vec::new();
        let sum = read_with_listener(&mut |layer| heard.push(layer.to_string()), |listener| {
            listener("layer 1 of 2");
            listener("layer 2 of 2");
            3
        });
        assert_eq!((sum, heard.len()), (3, 2));
        assert_eq!(heard[1], "layer 2 of 2");
    }
}
