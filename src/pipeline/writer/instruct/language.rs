//! In which language a text is.

use whatlang::{Lang, Script};

/// Letters from which on a language is believed.
const ENOUGH: usize = 40;
/// English words from which on a text of another language is none of it.
const DRIFT: usize = 3;
/// English words that no other language in Latin letters has, and that stand in nearly every sentence.
const ENGLISH: [&str; 22] = [
    "the", "and", "she", "they", "with", "that", "this", "which", "but", "from", "would", "could",
    "their", "there", "when", "because", "it", "wasn't", "didn't", "through", "who", "were",
];
/// Of a story the end is looked at.
const LOOKED_AT: usize = 2000;

/// Script and, where that is clear, language of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TextLanguage {
    script: Script,
    known: Option<Lang>,
}

impl TextLanguage {
    /// Of a text; `None` where it has no letters.
    pub(super) fn of(text: &str) -> Option<TextLanguage> {
        let skipped = text.chars().count().saturating_sub(LOOKED_AT);
        let text: String = text.chars().skip(skipped).collect();
        let script = whatlang::detect_script(&text)?;
        let letters = text.chars().filter(|c| c.is_alphabetic()).count();
        let found = whatlang::detect(&text);
        // Letters of its own say which language it is; in those that many share it takes a few.
        let sure = found.filter(|found| match script {
            Script::Latin | Script::Cyrillic | Script::Arabic | Script::Devanagari => {
                found.is_reliable() && letters >= ENOUGH
            }
            _ => true,
        });
        Some(TextLanguage {
            script,
            known: sure.map(|found| found.lang()),
        })
    }

    /// Of a story: as soon as its beginning says it surely that language holds, so that it is not
    /// another from panel to panel; but where the end of the story is surely in another one, its
    /// author has gone over to that.
    pub(super) fn of_story(texts: &[String]) -> Option<TextLanguage> {
        let end = TextLanguage::of(&texts.join(" "));
        let mut beginning = String::new();
        for text in texts {
            beginning.push_str(text);
            beginning.push(' ');
            let found = TextLanguage::of(&beginning).filter(|found| found.known.is_some());
            if let Some(found) = found {
                let now = end.filter(|end| end.known.is_some());
                return now.or(Some(found));
            }
            if beginning.len() > LOOKED_AT {
                break;
            }
        }
        end
    }

    /// Its English name.
    pub(super) fn name(self) -> Option<&'static str> {
        match (self.known, self.script) {
            (Some(Lang::Cmn), _) => Some("Chinese"),
            (Some(known), _) => Some(known.eng_name()),
            (None, _) => None,
        }
    }

    /// Whether it is written with thousands of letters that stand for words, which are as many
    /// tokens.
    pub(super) fn is_dense(self) -> bool {
        !matches!(self.script, Script::Latin)
    }

    /// Whether `text` may be of this language: its letters are the same, and nothing says that it
    /// is another language.
    pub(super) fn allows(self, text: &str) -> bool {
        let Some(other) = TextLanguage::of(text) else {
            return true;
        };
        if group(other.script) != group(self.script) {
            return false;
        }
        // A few words of English within a sentence are what a small model drifts into.
        let drifts = self.script == Script::Latin
            && self.known.is_some_and(|own| own != Lang::Eng)
            && english_words(text) >= DRIFT;
        match (self.known, other.known) {
            _ if drifts => false,
            (Some(own), Some(found)) => own == found,
            _ => true,
        }
    }

    /// What ends a sentence that was left open.
    pub(super) fn full_stop(self) -> char {
        match self.script {
            Script::Mandarin | Script::Hiragana | Script::Katakana => '。',
            Script::Devanagari | Script::Bengali => '।',
            _ => '.',
        }
    }
}

/// How many words of [`ENGLISH`] there are in a text.
fn english_words(text: &str) -> usize {
    let words = text.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '’');
    let words = words.map(|word| word.replace('’', "'").to_lowercase());
    words
        .filter(|word| ENGLISH.contains(&word.as_str()))
        .count()
}

/// Scripts that one language mixes are one.
fn group(script: Script) -> Script {
    match script {
        Script::Hiragana | Script::Katakana => Script::Mandarin,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stories_are_told_in_one_language() {
        let german = TextLanguage::of("Der kleine Fuchs fand eine leuchtende Laterne im verschneiten Wald und nahm sie mit nach Hause.").unwrap();
        assert_eq!(german.name(), Some("German"));
        assert!(german.allows("Die Eule fragte ihn leise, woher er sie habe."));
        assert!(!german.allows(
            "The owl asked him quietly where he had found the lantern and why he was afraid of it."
        ));
        assert!(!german.allows("猫头鹰轻轻地问他。"));
        let chinese = TextLanguage::of("一只狐狸在雪地里发现了一盏灯。").unwrap();
        assert_eq!(
            (chinese.name(), chinese.full_stop()),
            (Some("Chinese"), '。')
        );
        assert!(chinese.allows("它把灯带回了家。") && !chinese.allows("It took the lamp home."));
        let japanese = TextLanguage::of("きつねは雪の中でランタンを見つけました。").unwrap();
        assert_eq!(japanese.name(), Some("Japanese"));
        let spanish = TextLanguage::of(
            "Una niña encontró una llave dorada en la playa y la guardó en su bolsillo.",
        )
        .unwrap();
        assert_eq!(spanish.name(), Some("Spanish"));
        assert!(!spanish.allows(
            "Una niña encontró una llave dorada, but it wasn't to stop her, for she was too busy to stop."
        ));
        assert!(spanish.allows("La niña abrió la puerta con la llave y entró en la casa."));
        let told = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| text.to_string()).collect();
            TextLanguage::of_story(&texts).and_then(TextLanguage::name)
        };
        let opening = "Der kleine Fuchs fand eine leuchtende Laterne im verschneiten Wald.";
        assert_eq!(told(&[opening, "Milo!", "123"]), Some("German"));
        assert_eq!(
            told(&["Oh!", opening, "Der Fuchs lief nach Hause."]),
            Some("German")
        );
        let gone_over = "猫头鹰睁开一只眼睛，问这是谁的灯。".repeat(80);
        assert_eq!(told(&[opening, &gone_over]), Some("Chinese"));
        // A few words say nothing sure.
        assert!(german.allows("Milo!"));
        assert_eq!(TextLanguage::of("123 ..."), None);
    }
}
