//! The Porter stemmer (M. F. Porter, An algorithm for suffix stripping, 1980), which METEOR
//! matches words with.

/// The stem of a lower-case English word: "happily" and "happiness" are both "happi".
pub(super) fn stem(word: &str) -> String {
    if word.len() <= 2 || !word.bytes().all(|b| b.is_ascii_lowercase()) {
        return word.to_owned();
    }
    let mut w = StemBuffer(word.as_bytes().to_vec());
    w.plurals();
    w.past();
    if w.ends("y") && w.has_vowel(w.0.len() - 1) {
        w.replace("y", "i");
    }
    w.first_of(STEP_2);
    w.first_of(STEP_3);
    w.step_4();
    w.step_5();
    w.0.into_iter().map(char::from).collect()
}

const STEP_2: &[(&str, &str)] = &[
    ("ational", "ate"),
    ("tional", "tion"),
    ("enci", "ence"),
    ("anci", "ance"),
    ("izer", "ize"),
    ("abli", "able"),
    ("alli", "al"),
    ("entli", "ent"),
    ("eli", "e"),
    ("ousli", "ous"),
    ("ization", "ize"),
    ("ation", "ate"),
    ("ator", "ate"),
    ("alism", "al"),
    ("iveness", "ive"),
    ("fulness", "ful"),
    ("ousness", "ous"),
    ("aliti", "al"),
    ("iviti", "ive"),
    ("biliti", "ble"),
];
const STEP_3: &[(&str, &str)] = &[
    ("icate", "ic"),
    ("ative", ""),
    ("alize", "al"),
    ("iciti", "ic"),
    ("ical", "ic"),
    ("ful", ""),
    ("ness", ""),
];
const STEP_4: &[&str] = &[
    "al", "ance", "ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou",
    "ism", "ate", "iti", "ous", "ive", "ize",
];

struct StemBuffer(Vec<u8>);

impl StemBuffer {
    fn consonant(&self, i: usize) -> bool {
        match self.0[i] {
            b'a' | b'e' | b'i' | b'o' | b'u' => false,
            b'y' => i == 0 || !self.consonant(i - 1),
            _ => true,
        }
    }

    /// How often a vowel is followed by a consonant in the first `len` letters.
    fn measure(&self, len: usize) -> usize {
        (1..len)
            .filter(|&i| self.consonant(i) && !self.consonant(i - 1))
            .count()
    }

    fn has_vowel(&self, len: usize) -> bool {
        (0..len).any(|i| !self.consonant(i))
    }

    fn ends(&self, suffix: &str) -> bool {
        self.0.ends_with(suffix.as_bytes())
    }

    fn replace(&mut self, suffix: &str, by: &str) {
        self.0.truncate(self.0.len() - suffix.len());
        self.0.extend_from_slice(by.as_bytes());
    }

    /// Ends in two equal consonants.
    fn doubled(&self) -> bool {
        let n = self.0.len();
        n >= 2 && self.0[n - 1] == self.0[n - 2] && self.consonant(n - 1)
    }

    /// The first `len` letters end consonant, vowel, consonant, the last not w, x or y.
    fn short(&self, len: usize) -> bool {
        len >= 3
            && self.consonant(len - 3)
            && !self.consonant(len - 2)
            && self.consonant(len - 1)
            && !matches!(self.0[len - 1], b'w' | b'x' | b'y')
    }

    /// Step 1a.
    fn plurals(&mut self) {
        if self.ends("sses") {
            self.replace("sses", "ss");
        } else if self.ends("ies") {
            self.replace("ies", "i");
        } else if self.ends("s") && !self.ends("ss") {
            self.replace("s", "");
        }
    }

    /// Step 1b.
    fn past(&mut self) {
        if self.ends("eed") {
            if self.measure(self.0.len() - 3) > 0 {
                self.replace("eed", "ee");
            }
            return;
        }
        let Some(suffix) = ["ed", "ing"]
            .into_iter()
            .find(|s| self.ends(s) && self.has_vowel(self.0.len() - s.len()))
        else {
            return;
        };
        self.replace(suffix, "");
        if ["at", "bl", "iz"].iter().any(|s| self.ends(s)) {
            self.0.push(b'e');
        } else if self.doubled() && !matches!(self.0.last(), Some(b'l' | b's' | b'z')) {
            self.0.pop();
        } else if self.measure(self.0.len()) == 1 && self.short(self.0.len()) {
            self.0.push(b'e');
        }
    }

    /// Replaces the longest suffix of a table where enough is left before it.
    fn first_of(&mut self, table: &[(&str, &str)]) {
        let longest = table
            .iter()
            .filter(|(suffix, _)| self.ends(suffix))
            .max_by_key(|(suffix, _)| suffix.len());
        if let Some((suffix, by)) = longest
            && self.measure(self.0.len() - suffix.len()) > 0
        {
            self.replace(suffix, by);
        }
    }

    fn step_4(&mut self) {
        let longest = STEP_4
            .iter()
            .filter(|suffix| self.ends(suffix))
            .max_by_key(|suffix| suffix.len());
        let Some(suffix) = longest else {
            return;
        };
        let before = self.0.len() - suffix.len();
        let fits = *suffix != "ion" || matches!(self.0[..before].last(), Some(b's') | Some(b't'));
        if fits && self.measure(before) > 1 {
            self.replace(suffix, "");
        }
    }

    fn step_5(&mut self) {
        let before = self.0.len() - 1;
        if self.ends("e") {
            let m = self.measure(before);
            if m > 1 || (m == 1 && !self.short(before)) {
                self.0.pop();
            }
        }
        if self.ends("ll") && self.measure(self.0.len() - 1) > 1 {
            self.0.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::stem;

    #[test]
    fn words_of_porters_paper_have_his_stems() {
        for (word, want) in [
            ("caresses", "caress"),
            ("ponies", "poni"),
            ("cats", "cat"),
            ("feed", "feed"),
            ("agreed", "agre"),
            ("plastered", "plaster"),
            ("motoring", "motor"),
            ("sing", "sing"),
            ("conflated", "conflat"),
            ("hopping", "hop"),
            ("falling", "fall"),
            ("filing", "file"),
            ("happy", "happi"),
            ("sky", "sky"),
            ("relational", "relat"),
            ("conditional", "condit"),
            ("hopefulness", "hope"),
            ("triplicate", "triplic"),
            ("goodness", "good"),
            ("revival", "reviv"),
            ("adjustment", "adjust"),
            ("adoption", "adopt"),
            ("probate", "probat"),
            ("rate", "rate"),
            ("cease", "ceas"),
            ("controlling", "control"),
            ("roll", "roll"),
        ] {
            assert_eq!(stem(word), want, "{word}");
        }
    }
}
