//! A LLaMA in a GGUF file, of any of ggml's types.

use super::layer::{FloatRopeType, Layer};
use super::lora::{LinearWeight, LoraLinear};
use super::{EmbeddingTables, FloatConfig, FloatLlama};
use crate::llm::gguf::Gguf;
use crate::llm::{LlmError, Tokenizer};
use crate::nn::{Embedding, Linear, RmsNorm};
use candle_core::Device;
use std::path::Path;

/// Reads a matrix of that name, output width and input width.
type ReadMatrix<'a> = dyn Fn(&str, usize, usize) -> Result<LinearWeight, LlmError> + 'a;

/// An open GGUF file with its settings.
pub struct GgufLlama {
    file: Gguf,
    config: FloatConfig,
    /// Is told the layer that is read and how many there are.
    hear: Option<Box<LayerCallback>>,
}

/// Callback that gets the number of the layer being read, from 1, and how many there are.
type LayerCallback = dyn Fn(usize, usize) + Send + Sync;

impl GgufLlama {
    /// Opens the file and reads its header.
    ///
    /// # Errors
    /// When it can't be read, or is not a LLaMA.
    pub fn open(path: &Path) -> Result<Self, LlmError> {
        Self::read(Gguf::open(path.to_path_buf())?)
    }

    /// The only or first (by name) `.gguf` file in `dir`.
    ///
    /// # Errors
    /// When there is none, and as [`GgufLlama::open`].
    pub fn find(dir: &Path) -> Result<Self, LlmError> {
        Self::read(Gguf::find(dir)?)
    }

    /// The tokenizer inside the file.
    ///
    /// # Errors
    /// When it is of another kind than SmolLM2's.
    pub fn tokenizer(&self) -> Result<Tokenizer, LlmError> {
        Tokenizer::read(&self.file)
    }

    fn read(file: Gguf) -> Result<Self, LlmError> {
        let config = FloatConfig::from_gguf(file.header()).map_err(|e| file.unusable(e))?;
        let config = config.with_ends(
            file.count("tokenizer.ggml.bos_token_id", 1 << 30).ok(),
            file.count("tokenizer.ggml.eos_token_id", 1 << 30).ok(),
        );
        config.check().map_err(|e| file.unusable(e.to_string()))?;
        Ok(Self {
            file,
            config,
            hear: None,
        })
    }

    /// Calls `hear` with each layer's number, from 1, as it is read, and how many there are.
    #[must_use]
    pub fn with_listener(mut self, hear: impl Fn(usize, usize) + Send + Sync + 'static) -> Self {
        self.hear = Some(Box::new(hear));
        self
    }

    /// Hyperparameters as the config of a safetensors folder would have them.
    pub fn config(&self) -> &FloatConfig {
        &self.config
    }

    /// The file's own tables, in floating point.
    ///
    /// # Errors
    /// A tensor that is missing, has another shape, or is of an unknown type; so for all of them.
    pub fn tables(&self, device: &Device) -> Result<EmbeddingTables, LlmError> {
        let shape = [self.config.vocab_size, self.config.hidden_size];
        let table = self
            .file
            .float_tensor("token_embd.weight", &shape, device)?;
        let head = match self.file.has("output.weight") {
            true => self.file.float_tensor("output.weight", &shape, device)?,
            // Tied: the embedding table is the output layer too.
            false => table.clone(),
        };
        Ok(EmbeddingTables {
            embedding: Embedding::new(table),
            head: Linear::new(head.t()?.contiguous()?, None),
        })
    }

    /// The network with `tables`, its layers as they lie in the file, on the CPU without a copy
    /// where our kernels know their type. It has no backward.
    pub fn with_tables(
        &self,
        tables: EmbeddingTables,
        device: &Device,
    ) -> Result<FloatLlama, LlmError> {
        self.network(tables, device, &|name, out, inp| {
            if device.is_cpu()
                && let Ok(matrix) = self.file.matrix(name, out, inp)
            {
                return Ok(LinearWeight::Mapped(matrix));
            }
            let matrix = self.file.product(name, out, inp, device)?;
            Ok(LinearWeight::Quantised(matrix, out, inp))
        })
    }

    /// The network with the file's own tables. On the CPU the output layer, too, is read as it lies
    /// in the file where our kernels know its type: in floating point it would be most of what is
    /// read for a token of a small model. It has no backward.
    pub fn with_own_tables(&self, device: &Device) -> Result<FloatLlama, LlmError> {
        const TABLE: &str = "token_embd.weight";
        let (rows, width) = (self.config.vocab_size, self.config.hidden_size);
        let tied = device.is_cpu() && !self.file.has("output.weight");
        let Some(head) = tied
            .then(|| self.file.matrix(TABLE, rows, width).ok())
            .flatten()
        else {
            return self.with_tables(self.tables(device)?, device);
        };
        let table = self.file.float_tensor(TABLE, &[rows, width], device)?;
        let tables = EmbeddingTables {
            head: Linear::new(table.t()?, None),
            embedding: Embedding::new(table),
        };
        let mut llama = self.with_tables(tables, device)?;
        llama.quick_head = Some(LinearWeight::Mapped(head));
        Ok(llama)
    }

    /// The network with `tables`, its layers in floating point: for training what is beside them.
    pub fn dequantised(
        &self,
        tables: EmbeddingTables,
        device: &Device,
    ) -> Result<FloatLlama, LlmError> {
        self.network(tables, device, &|name, out, inp| {
            let weight = self.file.float_tensor(name, &[out, inp], device)?;
            Ok(LinearWeight::Float(Linear::new(
                weight.t()?.contiguous()?,
                None,
            )))
        })
    }

    fn network(
        &self,
        tables: EmbeddingTables,
        device: &Device,
        read: &ReadMatrix,
    ) -> Result<FloatLlama, LlmError> {
        let (file, c) = (&self.file, &self.config);
        let norm = |name: &str| -> Result<RmsNorm, LlmError> {
            let weight = file.float_tensor(name, &[c.hidden_size], device)?;
            Ok(RmsNorm::new(weight, c.rms_norm_eps))
        };
        let layers = (0..c.num_hidden_layers)
            .map(|i| {
                if let Some(hear) = &self.hear {
                    hear(i + 1, c.num_hidden_layers);
                }
                self.layer(i, &norm, read)
            })
            .collect::<Result<_, LlmError>>()?;
        Ok(FloatLlama {
            layers,
            norm: norm("output_norm.weight")?,
            device: device.clone(),
            embedding: tables.embedding,
            head: tables.head,
            quick_head: None,
            added: None,
            gpu: None,
            config: c.clone(),
        })
    }

    fn layer(
        &self,
        index: usize,
        norm: &dyn Fn(&str) -> Result<RmsNorm, LlmError>,
        read: &ReadMatrix,
    ) -> Result<Layer, LlmError> {
        let (width, inner) = (self.config.hidden_size, self.config.intermediate_size);
        let (heads, kv_heads) = (self.config.num_attention_heads, self.config.kv_heads());
        let head = self.config.head_width();
        let (wide, narrow) = (heads * head, kv_heads * head);
        let named = |part: &str| format!("blk.{index}.{part}.weight");
        let matrix = |part: &str, out: usize, inp: usize| read(&named(part), out, inp);
        Ok(Layer {
            attention_norm: norm(&named("attn_norm"))?,
            query: LoraLinear::new(matrix("attn_q", wide, width)?),
            key: matrix("attn_k", narrow, width)?,
            value: LoraLinear::new(matrix("attn_v", narrow, width)?),
            out: matrix("attn_output", width, wide)?,
            inner_norm: norm(&named("ffn_norm"))?,
            gate: matrix("ffn_gate", inner, width)?,
            up: matrix("ffn_up", inner, width)?,
            down: matrix("ffn_down", width, inner)?,
            heads,
            kv_heads,
            pairs: FloatRopeType::Neighbours,
        })
    }
}
