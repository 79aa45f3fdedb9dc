//! The fields of `sentencepiece_model.proto` that a byte-pair model needs, from its binary form.

use super::{PieceKind, VocabularyPiece};

/// What a `tokenizer.model` says.
pub(super) struct ModelProto {
    pub(super) pieces: Vec<VocabularyPiece>,
    /// 1 unigram, 2 byte pairs, 3 words, 4 letters.
    pub(super) model_type: u64,
    pub(super) byte_fallback: bool,
    pub(super) unknown_surface: String,
    pub(super) charsmap: bool,
    pub(super) dummy_prefix: bool,
    pub(super) remove_extra_whitespaces: bool,
    pub(super) escape_whitespaces: bool,
}

/// Reads `ModelProto`; `None` when it is no such message.
pub(super) fn read(bytes: &[u8]) -> Option<ModelProto> {
    // The defaults are those of the proto file.
    let mut model = ModelProto {
        pieces: Vec::new(),
        model_type: 1,
        byte_fallback: false,
        unknown_surface: " \u{2047} ".to_string(),
        charsmap: false,
        dummy_prefix: true,
        remove_extra_whitespaces: true,
        escape_whitespaces: true,
    };
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Bytes(bytes)) => model.pieces.push(piece(bytes)?),
            (2, Value::Bytes(bytes)) => trainer(bytes, &mut model)?,
            (3, Value::Bytes(bytes)) => normaliser(bytes, &mut model)?,
            _ => {}
        }
    }
    Some(model)
}

fn piece(bytes: &[u8]) -> Option<VocabularyPiece> {
    let (mut text, mut score, mut kind) = (None, 0.0, PieceKind::Normal);
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (1, Value::Bytes(bytes)) => text = Some(String::from_utf8(bytes.to_vec()).ok()?),
            (2, Value::Bits32(bits)) => score = f32::from_bits(bits),
            (3, Value::Number(number)) => kind = PieceKind::from_number(number)?,
            _ => {}
        }
    }
    let text = text?;
    Some(VocabularyPiece { text, score, kind })
}

fn trainer(bytes: &[u8], model: &mut ModelProto) -> Option<()> {
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (3, Value::Number(number)) => model.model_type = number,
            (35, Value::Number(number)) => model.byte_fallback = number != 0,
            (44, Value::Bytes(bytes)) => {
                model.unknown_surface = String::from_utf8_lossy(bytes).into_owned();
            }
            _ => {}
        }
    }
    Some(())
}

fn normaliser(bytes: &[u8], model: &mut ModelProto) -> Option<()> {
    let mut fields = Fields(bytes);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (2, Value::Bytes(bytes)) => model.charsmap = !bytes.is_empty(),
            (3, Value::Number(number)) => model.dummy_prefix = number != 0,
            (4, Value::Number(number)) => model.remove_extra_whitespaces = number != 0,
            (5, Value::Number(number)) => model.escape_whitespaces = number != 0,
            _ => {}
        }
    }
    Some(())
}

enum Value<'a> {
    Number(u64),
    Bits32(u32),
    Bits64,
    Bytes(&'a [u8]),
}

/// The fields of a message, one after the other.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The next field; `Some(None)` at the end, `None` when the bytes are no message.
    fn next(&mut self) -> Option<Option<(u64, Value<'a>)>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let key = self.number()?;
        let value = match key & 7 {
            0 => Value::Number(self.number()?),
            1 => {
                self.take(8)?;
                Value::Bits64
            }
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Bits32(u32::from_le_bytes(*self.take(4)?.first_chunk()?)),
            _ => return None,
        };
        Some(Some((key >> 3, value)))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// A variable-length number of at most ten bytes.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..70).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}
