//! The header of a GGUF file (ggml's specification, versions 2 and 3): what it says about the
//! model, and where its tensors lie. Every count and length in it is checked against the bytes
//! that are there before anything is made of it.

use std::collections::BTreeMap;

use super::ggml::GgmlType;

/// The most entries of all lists together that are believed; tokenizers have some hundred thousand.
const MOST_LISTED: u64 = 1 << 24;
/// The longest header, and the most tensors and values, that are believed.
const LONGEST_HEADER: usize = 1 << 28;
const MOST_TENSORS: u64 = 1 << 18;
const MOST_VALUES: u64 = 1 << 16;
const CUT: &str = "it is incomplete: it ends within its header";
/// ggml's own limit.
const MOST_DIMENSIONS: u32 = 4;

/// The value of a key in a GGUF header.
#[derive(Clone, Debug, PartialEq)]
pub enum GgufValue {
    /// An integer of any width and sign.
    Whole(i128),
    /// A floating-point number of either width.
    Float(f64),
    /// A boolean.
    Bool(bool),
    /// A UTF-8 string.
    String(String),
    /// An array of integers.
    Wholes(Vec<i128>),
    /// An array of floating-point numbers.
    Floats(Vec<f64>),
    /// An array of booleans.
    Bools(Vec<bool>),
    /// An array of strings.
    Strings(Vec<String>),
}

/// A tensor in a GGUF file.
#[derive(Clone, Debug, PartialEq)]
pub struct GgufTensor {
    /// Rows before columns, as PyTorch has them.
    pub shape: Vec<usize>,
    /// `None` for a type that is not known here.
    pub kind: Option<GgmlType>,
    /// ggml's number of the type.
    pub kind_number: u32,
    /// Where its first byte lies in the file.
    pub offset: usize,
    /// Length in bytes; 0 where the type is not known.
    pub bytes: usize,
}

/// The header of a GGUF file.
#[derive(Clone, Debug)]
pub struct GgufHeader {
    /// Key-value pairs about the model, such as `general.architecture`.
    pub metadata: BTreeMap<String, GgufValue>,
    /// Type, shape and place of each tensor, by name.
    pub tensors: BTreeMap<String, GgufTensor>,
}

impl GgufHeader {
    /// Reads the header of the file whose bytes are `file`.
    ///
    /// # Errors
    /// What is wrong, in words: it is no GGUF file, its header is cut short or garbled, or a
    /// tensor lies outside the file.
    pub fn read(file: &[u8]) -> Result<GgufHeader, String> {
        if !file.starts_with(b"GGUF") {
            return Err("it is no GGUF file".to_string());
        }
        let mut reader = Reader {
            file: &file[..file.len().min(LONGEST_HEADER)],
            at: 4,
            listed: 0,
        };
        let version = reader.u32()?;
        if !(2..=3).contains(&version) {
            return Err(format!("it has GGUF version {version}, not 2 or 3"));
        }
        let (tensor_count, value_count) = (reader.u64()?, reader.u64()?);
        if tensor_count > MOST_TENSORS || value_count > MOST_VALUES {
            return Err(format!(
                "its header would hold {tensor_count} tensors and {value_count} values"
            ));
        }
        let mut metadata = BTreeMap::new();
        for _ in 0..value_count {
            let key = reader.string()?;
            let kind = reader.u32()?;
            metadata.insert(key, reader.value(kind)?);
        }
        let mut tensors = BTreeMap::new();
        for _ in 0..tensor_count {
            let (name, tensor) = reader.tensor()?;
            tensors.insert(name, tensor);
        }
        let alignment = match metadata.get("general.alignment") {
            Some(GgufValue::Whole(n)) => usize::try_from(*n).ok().filter(|n| n.is_power_of_two()),
            Some(_) => None,
            None => Some(32),
        };
        let alignment = alignment.ok_or("its alignment is no power of two")?;
        let start = reader.at.checked_next_multiple_of(alignment);
        let mut whole = 0;
        for (name, tensor) in &mut tensors {
            let offset = start.and_then(|start| start.checked_add(tensor.offset));
            let end = offset.and_then(|offset| offset.checked_add(tensor.bytes));
            let (Some(offset), Some(end)) = (offset, end) else {
                return Err(format!("its tensor {name} is larger than any file"));
            };
            tensor.offset = offset;
            whole = whole.max(end);
        }
        if whole > file.len() {
            let missing = whole - file.len();
            return Err(format!(
                "it is incomplete: {missing} of its {whole} bytes are missing"
            ));
        }
        Ok(GgufHeader { metadata, tensors })
    }

    /// The string under `key`.
    pub fn string(&self, key: &str) -> Option<&str> {
        match self.metadata.get(key)? {
            GgufValue::String(text) => Some(text),
            _ => None,
        }
    }

    /// Numbers in all tensors.
    pub fn parameters(&self) -> u64 {
        let numbers = |tensor: &GgufTensor| {
            let sizes = tensor.shape.iter().map(|&size| size as u64);
            sizes.fold(1, u64::saturating_mul)
        };
        self.tensors
            .values()
            .map(numbers)
            .fold(0, u64::saturating_add)
    }

    /// The number under `key`, of whatever type.
    pub fn number(&self, key: &str) -> Option<f64> {
        match self.metadata.get(key)? {
            GgufValue::Whole(number) => Some(*number as f64),
            GgufValue::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// The whole number under `key`, where it is not negative.
    pub fn whole(&self, key: &str) -> Option<usize> {
        match self.metadata.get(key)? {
            GgufValue::Whole(number) => usize::try_from(*number).ok(),
            _ => None,
        }
    }
}

struct Reader<'a> {
    file: &'a [u8],
    at: usize,
    /// Entries of lists so far.
    listed: u64,
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: u64) -> Result<&'a [u8], String> {
        let count = usize::try_from(count).ok();
        let end = count.and_then(|count| self.at.checked_add(count));
        let found = end.and_then(|end| self.file.get(self.at..end));
        let found = found.ok_or(CUT)?;
        self.at += found.len();
        Ok(found)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let bytes = self.bytes(N as u64)?;
        bytes.try_into().map_err(|_| CUT.to_string())
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, String> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn string(&mut self) -> Result<String, String> {
        let length = self.u64()?;
        // Tokens may be pieces of a character.
        Ok(String::from_utf8_lossy(self.bytes(length)?).into_owned())
    }

    fn whole(&mut self, kind: u32) -> Result<Option<i128>, String> {
        Ok(Some(match kind {
            0 => u8::from_le_bytes(self.array()?).into(),
            1 => i8::from_le_bytes(self.array()?).into(),
            2 => u16::from_le_bytes(self.array()?).into(),
            3 => i16::from_le_bytes(self.array()?).into(),
            4 => u32::from_le_bytes(self.array()?).into(),
            5 => i32::from_le_bytes(self.array()?).into(),
            10 => u64::from_le_bytes(self.array()?).into(),
            11 => i64::from_le_bytes(self.array()?).into(),
            _ => return Ok(None),
        }))
    }

    fn float(&mut self, kind: u32) -> Result<f64, String> {
        match kind {
            6 => Ok(f32::from_le_bytes(self.array()?).into()),
            _ => Ok(f64::from_le_bytes(self.array()?)),
        }
    }

    fn bool(&mut self) -> Result<bool, String> {
        Ok(self.bytes(1)?[0] != 0)
    }

    fn value(&mut self, kind: u32) -> Result<GgufValue, String> {
        if let Some(number) = self.whole(kind)? {
            return Ok(GgufValue::Whole(number));
        }
        match kind {
            6 | 12 => Ok(GgufValue::Float(self.float(kind)?)),
            7 => Ok(GgufValue::Bool(self.bool()?)),
            8 => Ok(GgufValue::String(self.string()?)),
            9 => self.list(),
            _ => Err(format!("its header has a value of unknown type {kind}")),
        }
    }

    fn list(&mut self) -> Result<GgufValue, String> {
        let (kind, length) = (self.u32()?, self.u64()?);
        self.listed = self.listed.saturating_add(length);
        if self.listed > MOST_LISTED {
            return Err(format!("its header has a list of {length} entries"));
        }
        let numbers = 0..length;
        match kind {
            6 | 12 => numbers
                .map(|_| self.float(kind))
                .collect::<Result<_, _>>()
                .map(GgufValue::Floats),
            7 => numbers
                .map(|_| self.bool())
                .collect::<Result<_, _>>()
                .map(GgufValue::Bools),
            8 => numbers
                .map(|_| self.string())
                .collect::<Result<_, _>>()
                .map(GgufValue::Strings),
            _ => numbers
                .map(|_| {
                    let number = self.whole(kind)?;
                    number.ok_or_else(|| format!("its header has a list of unknown type {kind}"))
                })
                .collect::<Result<_, _>>()
                .map(GgufValue::Wholes),
        }
    }

    /// A tensor whose offset still counts from where the tensors begin.
    fn tensor(&mut self) -> Result<(String, GgufTensor), String> {
        let name = self.string()?;
        let dimensions = self.u32()?;
        if dimensions > MOST_DIMENSIONS {
            return Err(format!("its tensor {name} has {dimensions} dimensions"));
        }
        let large = || format!("its tensor {name} is larger than any file");
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(usize::try_from(self.u64()?).map_err(|_| large())?);
        }
        let kind_number = self.u32()?;
        let offset = usize::try_from(self.u64()?).map_err(|_| large())?;
        let kind = GgmlType::from_number(kind_number);
        let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        let count = count.ok_or_else(large)?;
        let bytes = match kind {
            Some(kind) => {
                // Blocks lie along a row, the first dimension here.
                let row = shape.first().copied().unwrap_or(1);
                if !row.is_multiple_of(kind.block_weights()) {
                    return Err(format!(
                        "a row of its tensor {name} is no whole number of blocks"
                    ));
                }
                let blocks = count / kind.block_weights();
                blocks.checked_mul(kind.block_bytes()).ok_or_else(large)?
            }
            None => 0,
        };
        shape.reverse();
        let tensor = GgufTensor {
            shape,
            kind,
            kind_number,
            offset,
            bytes,
        };
        Ok((name, tensor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(out: &mut Vec<u8>, text: &str) {
        out.extend((text.len() as u64).to_le_bytes());
        out.extend(text.as_bytes());
    }

    /// One value, one list and one tensor of 2 rows of 32 weights.
    fn file() -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend(1u64.to_le_bytes());
        out.extend(2u64.to_le_bytes());
        string(&mut out, "general.architecture");
        out.extend(8u32.to_le_bytes());
        string(&mut out, "llama");
        string(&mut out, "tokenizer.ggml.tokens");
        out.extend(9u32.to_le_bytes());
        out.extend(8u32.to_le_bytes());
        out.extend(2u64.to_le_bytes());
        string(&mut out, "<unk>");
        string(&mut out, "<s>");
        string(&mut out, "w");
        out.extend(2u32.to_le_bytes());
        out.extend(32u64.to_le_bytes());
        out.extend(2u64.to_le_bytes());
        out.extend(2u32.to_le_bytes());
        out.extend(0u64.to_le_bytes());
        out.resize(out.len().next_multiple_of(32) + 36, 0);
        out
    }

    #[test]
    fn values_and_tensors_are_found() {
        let file = file();
        let header = GgufHeader::read(&file).unwrap();
        assert_eq!(header.string("general.architecture"), Some("llama"));
        let tokens = GgufValue::Strings(vec!["<unk>".to_string(), "<s>".to_string()]);
        assert_eq!(header.metadata["tokenizer.ggml.tokens"], tokens);
        let tensor = &header.tensors["w"];
        assert_eq!(tensor.shape, [2, 32]);
        assert_eq!(tensor.kind, Some(GgmlType::Q4_0));
        assert_eq!(tensor.offset + tensor.bytes, file.len());
    }

    #[test]
    fn whatever_is_cut_or_changed_is_told_without_a_panic() {
        let whole = file();
        for length in 0..whole.len() {
            assert!(GgufHeader::read(&whole[..length]).is_err(), "{length}");
        }
        for at in 0..whole.len() {
            for byte in [0, 1, 9, 0x7f, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = byte;
                let _ = GgufHeader::read(&bytes);
            }
        }
        let mut huge = b"GGUF\x03\0\0\0".to_vec();
        huge.extend(u64::MAX.to_le_bytes());
        huge.extend(u64::MAX.to_le_bytes());
        assert!(GgufHeader::read(&huge).is_err());
    }
}
