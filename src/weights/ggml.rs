//! ggml's types of tensors: their numbers in a GGUF file, their names, and how many weights and
//! bytes a block has (`ggml.h` and `ggml-common.h` of llama.cpp).

use candle_core::quantized::GgmlDType;

use crate::nn::quant::QuantType;

macro_rules! types {
    ($($kind:ident = $number:literal, $name:literal, $weights:literal, $bytes:literal;)*) => {
        /// How a tensor in a GGUF file is stored.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum GgmlType {
            $(
                #[doc = concat!("`", $name, "`: ", $weights, " weights a block of ", $bytes, " bytes.")]
                $kind,
            )*
        }

        impl GgmlType {
            /// All of them, by number.
            pub const ALL: &[GgmlType] = &[$(GgmlType::$kind),*];

            /// The type with ggml's `number`.
            pub fn from_number(number: u32) -> Option<GgmlType> {
                match number {
                    $($number => Some(GgmlType::$kind),)*
                    _ => None,
                }
            }

            /// llama.cpp's name, such as `Q4_K`.
            pub fn name(self) -> &'static str {
                match self { $(GgmlType::$kind => $name),* }
            }

            /// Weights of a block, which lie along a row.
            pub fn block_weights(self) -> usize {
                match self { $(GgmlType::$kind => $weights),* }
            }

            /// Bytes of a block.
            pub fn block_bytes(self) -> usize {
                match self { $(GgmlType::$kind => $bytes),* }
            }
        }
    };
}

types! {
    F32 = 0, "F32", 1, 4;
    F16 = 1, "F16", 1, 2;
    Q4_0 = 2, "Q4_0", 32, 18;
    Q4_1 = 3, "Q4_1", 32, 20;
    Q5_0 = 6, "Q5_0", 32, 22;
    Q5_1 = 7, "Q5_1", 32, 24;
    Q8_0 = 8, "Q8_0", 32, 34;
    Q8_1 = 9, "Q8_1", 32, 36;
    Q2K = 10, "Q2_K", 256, 84;
    Q3K = 11, "Q3_K", 256, 110;
    Q4K = 12, "Q4_K", 256, 144;
    Q5K = 13, "Q5_K", 256, 176;
    Q6K = 14, "Q6_K", 256, 210;
    Q8K = 15, "Q8_K", 256, 292;
    Iq2Xxs = 16, "IQ2_XXS", 256, 66;
    Iq2Xs = 17, "IQ2_XS", 256, 74;
    Iq3Xxs = 18, "IQ3_XXS", 256, 98;
    Iq1S = 19, "IQ1_S", 256, 50;
    Iq4Nl = 20, "IQ4_NL", 32, 18;
    Iq3S = 21, "IQ3_S", 256, 110;
    Iq2S = 22, "IQ2_S", 256, 82;
    Iq4Xs = 23, "IQ4_XS", 256, 136;
    I8 = 24, "I8", 1, 1;
    I16 = 25, "I16", 1, 2;
    I32 = 26, "I32", 1, 4;
    I64 = 27, "I64", 1, 8;
    F64 = 28, "F64", 1, 8;
    Iq1M = 29, "IQ1_M", 256, 56;
    Bf16 = 30, "BF16", 1, 2;
    Tq1_0 = 34, "TQ1_0", 256, 54;
    Tq2_0 = 35, "TQ2_0", 256, 66;
    Mxfp4 = 39, "MXFP4", 32, 17;
}

impl GgmlType {
    /// Our kernels' name of it, where they read it.
    pub fn quant(self) -> Option<QuantType> {
        Some(match self {
            GgmlType::F32 => QuantType::F32,
            GgmlType::F16 => QuantType::F16,
            GgmlType::Bf16 => QuantType::Bf16,
            GgmlType::Q4_0 => QuantType::Q4_0,
            GgmlType::Q4_1 => QuantType::Q4_1,
            GgmlType::Q5_0 => QuantType::Q5_0,
            GgmlType::Q5_1 => QuantType::Q5_1,
            GgmlType::Q8_0 => QuantType::Q8_0,
            GgmlType::Q2K => QuantType::Q2K,
            GgmlType::Q3K => QuantType::Q3K,
            GgmlType::Q4K => QuantType::Q4K,
            GgmlType::Q5K => QuantType::Q5K,
            GgmlType::Q6K => QuantType::Q6K,
            GgmlType::Iq4Nl => QuantType::Iq4Nl,
            GgmlType::Iq4Xs => QuantType::Iq4Xs,
            GgmlType::Mxfp4 => QuantType::Mxfp4,
            _ => return None,
        })
    }

    /// candle's name of it, where it reads it.
    pub fn candle(self) -> Option<GgmlDType> {
        Some(match self {
            GgmlType::F32 => GgmlDType::F32,
            GgmlType::F16 => GgmlDType::F16,
            GgmlType::Bf16 => GgmlDType::BF16,
            GgmlType::Q4_0 => GgmlDType::Q4_0,
            GgmlType::Q4_1 => GgmlDType::Q4_1,
            GgmlType::Q5_0 => GgmlDType::Q5_0,
            GgmlType::Q5_1 => GgmlDType::Q5_1,
            GgmlType::Q8_0 => GgmlDType::Q8_0,
            GgmlType::Q8_1 => GgmlDType::Q8_1,
            GgmlType::Q2K => GgmlDType::Q2K,
            GgmlType::Q3K => GgmlDType::Q3K,
            GgmlType::Q4K => GgmlDType::Q4K,
            GgmlType::Q5K => GgmlDType::Q5K,
            GgmlType::Q6K => GgmlDType::Q6K,
            GgmlType::Q8K => GgmlDType::Q8K,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_candle() {
        for kind in GgmlType::ALL {
            if let Some(other) = kind.candle() {
                let name = kind.name();
                assert_eq!(kind.block_weights(), other.block_size(), "{name}");
                assert_eq!(kind.block_bytes(), other.type_size(), "{name}");
            }
        }
    }
}
