//! Who comes back in a story, as the model says it.

use super::clean::{AnswerFlaw, is_afterword, is_refusal, lines, plain};
use super::sentences::words;
use crate::story::{Member, MemberKind, mentioned_members};

/// Most members that are asked for at a time.
pub(super) const MOST: usize = 6;
/// Most words of a name and of how somebody looks; letters of a script without spaces count, too.
const NAME: usize = 5;
const LETTERS: usize = 40;
const LOOKS: usize = 40;

/// The order, behind the story.
pub(super) fn order() -> String {
    format!(
        "List who comes back in the story, and which places and things do: at most {MOST}, the most important first. \
         One line for each, in three parts with semicolons between them: the name that the story uses; its other names in the story, with commas between them, or -; \
         how it looks, in at most fifteen words of what can be seen. Only those whom the story names, no numbers, no headings."
    )
}

/// The members in an answer: those whom the texts `told` name and who are not in the cast `known`.
///
/// # Errors
/// What is wrong with the answer.
pub(super) fn cast(answer: &str, text: &str, known: &[Member]) -> Result<Vec<Member>, AnswerFlaw> {
    let mut found: Vec<Member> = Vec::new();
    let mut named = 0;
    for line in lines(answer) {
        let line = plain(&line);
        if is_refusal(&line) {
            return Err(AnswerFlaw::Refusal);
        }
        if line.is_empty() || is_afterword(&line) {
            continue;
        }
        let Some(member) = member(&line) else {
            continue;
        };
        named += 1;
        // A model likes to add somebody of its own.
        if mentioned_members(std::slice::from_ref(&member), text).is_empty() {
            continue;
        }
        let names: Vec<&str> = member.names().collect();
        let names = names.join(". ");
        let twice = !mentioned_members(known, &names).is_empty()
            || !mentioned_members(&found, &names).is_empty();
        if !twice && found.len() < MOST {
            found.push(member);
        }
    }
    match named {
        0 => Err(AnswerFlaw::Lines),
        _ => Ok(found),
    }
}

/// `Milo; the boy; small, red scarf`, or `Milo: small, red scarf`.
fn member(line: &str) -> Option<Member> {
    let parts: Vec<&str> = line.split([';', '；']).map(str::trim).collect();
    let (name, others, looks) = match parts[..] {
        [name, others, looks, ..] => (name, others, looks),
        [name, looks] => (name, "", looks),
        _ => {
            let (name, looks) = line.split_once([':', '：'])?;
            (name.trim(), "", looks.trim())
        }
    };
    let fits = |name: &str| {
        (1..=LETTERS).contains(&name.chars().count()) && name.split_whitespace().count() <= NAME
    };
    if !fits(name) || !name.chars().any(char::is_alphanumeric) {
        return None;
    }
    let none = |name: &&str| {
        let bare = name.trim_matches(['-', '–', '—', '.', ' ']).to_lowercase();
        !bare.is_empty() && bare != "none" && bare != name_of(parts[0])
    };
    let others = others.split([',', '，', '、', '/']).map(str::trim);
    let others = others.filter(|name| fits(name)).filter(none);
    let looks = looks
        .trim_matches(['-', '–', '—', ' '])
        .trim_end_matches('.');
    let looks = if words(looks) > LOOKS { "" } else { looks };
    Some(Member {
        name: name.to_owned(),
        kind: MemberKind::Character,
        other_names: others.map(str::to_owned).collect(),
        description: looks.to_owned(),
        ..Member::default()
    })
}

fn name_of(part: &str) -> String {
    part.trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::MemberId;

    const TOLD: &str = "Milo found a lamp. The boy ran to Captain Ann. 米洛笑了。";

    fn names(answer: &str) -> Result<Vec<String>, AnswerFlaw> {
        let found = cast(answer, TOLD, &[])?;
        Ok(found.into_iter().map(|member| member.name).collect())
    }

    #[test]
    fn members_are_read_in_the_ways_that_models_write_them() {
        let found = cast(
            "Here is the list:\n1. **Milo**; the boy; small, red scarf, gap tooth.\n- Captain Ann; -; tall woman in a blue coat\nBob; -; a bear\n",
            TOLD,
            &[],
        )
        .unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0].names().collect::<Vec<_>>(), ["Milo", "the boy"]);
        assert_eq!(found[0].description, "small, red scarf, gap tooth");
        assert_eq!(found[1].other_names, [] as [&str; 0]);
        assert_eq!(names("Milo: a small boy").unwrap(), ["Milo"]);
        assert_eq!(names("米洛；-；红围巾").unwrap(), ["米洛"]);
        assert_eq!(names("Milo; none; red\nMilo; -; blue").unwrap(), ["Milo"]);
    }

    #[test]
    fn what_names_nobody_is_asked_for_again() {
        for answer in [
            "",
            "The story is about friendship and courage.",
            "I cannot help with that.",
        ] {
            assert!(names(answer).is_err(), "{answer}");
        }
        assert_eq!(names("Bob; -; a bear").unwrap(), [] as [&str; 0]);
        let known = Member {
            name: "milo".into(),
            ..Member::new(MemberId(1))
        };
        let found = cast("Milo; the boy; red", TOLD, &[known]).unwrap();
        assert!(found.is_empty(), "{found:?}");
    }
}
