//! Who is in a text: names and other names of the cast, as whole words of whatever script.

use unicode_normalization::UnicodeNormalization;
use unicode_script::{Script, UnicodeScript};
use unicode_segmentation::UnicodeSegmentation;

use super::{Member, MemberId};

/// A member of the cast in a text, by where its name stands in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameMention {
    /// The member that is named.
    pub member: MemberId,
    /// First byte of the name in the text.
    pub start: usize,
    /// Byte behind the name in the text.
    pub end: usize,
}

/// Letters that Arabic and Hebrew write before a word without a space: "and", "the", "to".
const JOINED_BEFORE: &str = "\u{648}\u{641}\u{628}\u{644}\u{643}\u{627}\u{633}\u{5d5}\u{5d4}\u{5d1}\u{5dc}\u{5de}\u{5e9}\u{5db}";
/// Most of those before one word.
const MOST_JOINED: usize = 4;
/// What Korean writes behind a name without a space.
const PARTICLES: [&str; 25] = [
    "은", "는", "이", "가", "을", "를", "와", "과", "의", "에", "도", "로", "으로", "께", "야",
    "아", "랑", "만", "까지", "부터", "처럼", "보다", "한테", "들", "님",
];

/// A letter as it is compared, and where it stands in the text.
struct Letter {
    folded: String,
    start: usize,
    end: usize,
}

/// What a letter is to the one beside it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LetterClass {
    /// Nothing of a word.
    Apart,
    /// Of a script that is written without spaces, in which a name may stand anywhere.
    Unspaced,
    Katakana,
    Hangul,
    /// Of a script whose words have spaces between them.
    Spaced,
}

fn kind(letter: &str) -> LetterClass {
    let Some(c) = letter.chars().next() else {
        return LetterClass::Apart;
    };
    if !c.is_alphanumeric() && c != '_' {
        return LetterClass::Apart;
    }
    match c.script() {
        // The long vowel belongs to no script of its own.
        _ if c == '\u{30fc}' => LetterClass::Katakana,
        Script::Katakana => LetterClass::Katakana,
        Script::Hangul => LetterClass::Hangul,
        Script::Han
        | Script::Hiragana
        | Script::Bopomofo
        | Script::Thai
        | Script::Lao
        | Script::Khmer
        | Script::Myanmar
        | Script::Tibetan => LetterClass::Unspaced,
        _ => LetterClass::Spaced,
    }
}

/// Case, width, accents' spelling and the marks of vowels that may be left out make no difference.
fn fold(letter: &str) -> String {
    let optional = |c: &char| matches!(c, '\u{591}'..='\u{5c7}' | '\u{640}' | '\u{64b}'..='\u{65f}' | '\u{670}');
    let lower = letter.to_lowercase();
    let plain = lower.nfkc().filter(|c| !optional(c)).map(|c| match c {
        '\u{2018}' | '\u{2019}' | '\u{2bc}' => '\'',
        '\u{2010}' | '\u{2011}' => '-',
        c => c,
    });
    plain.collect()
}

/// The letters of a text, any run of white space as one.
fn letters(text: &str) -> Vec<Letter> {
    let mut letters: Vec<Letter> = Vec::new();
    for (start, letter) in text.grapheme_indices(true) {
        let end = start + letter.len();
        let folded = match letter.chars().all(char::is_whitespace) {
            true => " ".to_owned(),
            false => fold(letter),
        };
        match letters.last_mut() {
            Some(last) if folded.is_empty() || (folded == " " && last.folded == " ") => {
                last.end = end;
            }
            _ if folded.is_empty() => {}
            _ => letters.push(Letter { folded, start, end }),
        }
    }
    letters
}

/// Whether a word begins at `at`.
fn begins(text: &[Letter], at: usize) -> bool {
    let Some(before) = at.checked_sub(1) else {
        return true;
    };
    let first = kind(&text[at].folded);
    let joins = |at: usize| match (kind(&text[at].folded), first) {
        (LetterClass::Apart, _) | (LetterClass::Unspaced, _) | (_, LetterClass::Unspaced) => false,
        (LetterClass::Katakana, other) | (other, LetterClass::Katakana) => {
            other == LetterClass::Katakana
        }
        _ => true,
    };
    if !joins(before) {
        return true;
    }
    // "And the boy" may be one word.
    let small = |at: usize| JOINED_BEFORE.contains(text[at].folded.as_str());
    (0..=before)
        .rev()
        .take(MOST_JOINED + 1)
        .take_while(|&at| small(at) || !joins(at))
        .any(|at| at == 0 || !joins(at))
}

/// Whether a word ends before `end`.
fn ends(text: &[Letter], end: usize) -> bool {
    let (Some(last), Some(next)) = (text.get(end.wrapping_sub(1)), text.get(end)) else {
        return true;
    };
    match (kind(&last.folded), kind(&next.folded)) {
        (_, LetterClass::Apart) | (LetterClass::Unspaced, _) | (_, LetterClass::Unspaced) => true,
        (LetterClass::Hangul, LetterClass::Hangul) => {
            let rest = text[end..].iter().map(|letter| letter.folded.as_str());
            let rest: String = rest
                .take_while(|c| kind(c) == LetterClass::Hangul)
                .collect();
            // "이" stands between a name and its particle, too.
            let rest = rest.strip_prefix('이').unwrap_or(&rest);
            rest.is_empty() || PARTICLES.iter().any(|particle| rest.starts_with(particle))
        }
        (LetterClass::Katakana, other) | (other, LetterClass::Katakana) => {
            other != LetterClass::Katakana
        }
        _ => false,
    }
}

/// Where the members of `cast` are named in `text`, first to last. Of names that overlap the
/// longer counts: "Milo the Great" is not Milo where both are in the cast.
///
/// ```
/// use vokenboard::story::{Member, MemberId, name_mentions};
///
/// let milo = Member { name: "Milo".into(), ..Member::new(MemberId(1)) };
/// let found = name_mentions(&[milo], "Milord sees MILO's lamp.");
/// assert_eq!((found.len(), found[0].start, found[0].end), (1, 12, 16));
/// ```
pub fn name_mentions(cast: &[Member], text: &str) -> Vec<NameMention> {
    let text = letters(text);
    let mut hits: Vec<(usize, usize, MemberId)> = Vec::new();
    for member in cast {
        for name in member.names() {
            let name = letters(name);
            if name.is_empty() || name.len() > text.len() {
                continue;
            }
            let same = |at: usize| {
                let there = text[at..].iter().zip(&name);
                there.into_iter().all(|(a, b)| a.folded == b.folded)
            };
            for at in 0..=text.len() - name.len() {
                let end = at + name.len();
                if same(at) && begins(&text, at) && ends(&text, end) {
                    hits.push((at, end, member.id));
                }
            }
        }
    }
    // Longest first; of equals the first of the cast.
    hits.sort_by_key(|(at, end, _)| (std::cmp::Reverse(end - at), *at));
    let mut taken: Vec<(usize, usize, MemberId)> = Vec::new();
    for hit in hits {
        if taken
            .iter()
            .all(|(at, end, _)| hit.1 <= *at || *end <= hit.0)
        {
            taken.push(hit);
        }
    }
    taken.sort_by_key(|(at, ..)| *at);
    let places = taken.into_iter().map(|(at, end, member)| NameMention {
        member,
        start: text[at].start,
        end: text[end - 1].end,
    });
    places.collect()
}

/// Who of `cast` is named in `text`, each once, in the order in which they are.
pub fn mentioned_members(cast: &[Member], text: &str) -> Vec<MemberId> {
    let mut found = Vec::new();
    for named in name_mentions(cast, text) {
        if !found.contains(&named.member) {
            found.push(named.member);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cast(names: &[&[&str]]) -> Vec<Member> {
        let members = names.iter().zip(1..).map(|(names, id)| Member {
            name: names[0].to_string(),
            other_names: names[1..].iter().map(ToString::to_string).collect(),
            ..Member::new(MemberId(id))
        });
        members.collect()
    }

    fn finds(names: &[&str], text: &str) -> bool {
        !mentioned_members(&cast(&[names]), text).is_empty()
    }

    #[test]
    fn names_are_whole_words_whatever_their_case_and_spelling() {
        for (name, text, is) in [
            ("Milo", "Then Milo's lamp went out.", true),
            ("Milo", "MILO!", true),
            ("Milo", "Milord and Camilo came.", false),
            ("Milo", "milo_2 is a file.", false),
            ("the boy", "Then  the\nBoy ran.", true),
            ("the boy", "The boys ran.", false),
            // Composed and decomposed.
            ("Jos\u{e9}", "Jose\u{301} sings.", true),
            ("Jose", "Jos\u{e9} sings.", false),
            ("O'Neil", "O\u{2019}Neil sings.", true),
            ("Ａｎｎ", "Ann sings.", true),
            ("Мила", "А Мила спит.", true),
            ("Мила", "Милая кошка спит.", false),
            ("Μίλο", "Ο ΜΊΛΟ τρέχει.", true),
            ("狐狸", "小狐狸发现了一盏灯。", true),
            ("ミロ", "ミロは走る。", true),
            ("ミロ", "ミロク様が来た。", false),
            ("มิโล", "แล้วมิโลก็วิ่ง", true),
            ("밀로", "밀로는 달렸다.", true),
            ("밀로", "밀로드가 왔다.", false),
            ("سامر", "وسامر يركض", true),
            (
                "سامر",
                "\u{633}\u{64e}\u{627}\u{645}\u{650}\u{631} يركض",
                true,
            ),
            ("سامر", "مسامر كثيرة", false),
            ("דן", "ודן רץ", true),
            ("ß", "a ß b", true),
            ("🦊", "The 🦊 runs.", true),
        ] {
            assert_eq!(finds(&[name], text), is, "{name} in {text}");
        }
        assert!(!finds(&["", " "], "a b"), "an empty name is nobody's");
    }

    #[test]
    fn of_names_that_overlap_the_longer_counts_and_the_order_is_the_texts() {
        let cast = cast(&[
            &["Milo"],
            &["Milo the Great", "the king"],
            &["Ann", "her sister"],
        ]);
        let ids = |text: &str| -> Vec<u64> {
            let found = mentioned_members(&cast, text);
            found.into_iter().map(|id| id.0).collect()
        };
        assert_eq!(ids("Her sister saw Milo the Great."), [3, 2]);
        assert_eq!(ids("Milo and the King, and Milo again."), [1, 2]);
        assert_eq!(ids("Nobody."), [] as [u64; 0]);
        let text = "So Ann — and Milo — left.";
        let named = name_mentions(&cast, text);
        let words: Vec<&str> = named.iter().map(|n| &text[n.start..n.end]).collect();
        assert_eq!(words, ["Ann", "Milo"]);
    }
}
