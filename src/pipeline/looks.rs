//! How the cast comes into a picture: descriptions into its prompt, reference pictures, LoRAs and
//! embeddings into its settings, and pictures before the story for a model that sees.

use super::painter::{Capabilities, PromptStyle, embedding_name};
use super::{ContextPanel, Request};
use crate::story::{
    Likeness, LoraUse, Member, MemberKind, PanelId, Reference, mentioned_members, name_mentions,
};
use crate::storyworld::mentions;

/// Words that stand before a noun.
const ARTICLES: [&str; 11] = [
    "a", "an", "the", "my", "your", "his", "her", "its", "our", "their", "this",
];

impl Request {
    /// Who is in the panel with this text: those whom the author named, else those whom it names.
    pub(super) fn in_picture(&self, text: &str) -> Vec<&Member> {
        let cast = &self.board.cast;
        let ids = match &self.cast {
            Some(ids) => ids.clone(),
            None => mentioned_members(cast, text),
        };
        let member = |id| cast.iter().find(|member| member.id == id);
        ids.into_iter().filter_map(member).collect()
    }

    /// The text that says who is in the panel: its own or, where that is to be written, the last
    /// that names somebody.
    pub(super) fn naming_text(&self) -> &str {
        if let Some(text) = &self.text {
            return text;
        }
        let texts = self.context.iter().rev().map(|panel| panel.text.as_str());
        let mut naming = texts.filter(|text| !mentioned_members(&self.board.cast, text).is_empty());
        naming.next().unwrap_or_default()
    }

    /// The same request with what the cast brings to a picture of `text` in its settings, for a
    /// painter that takes `takes`. What members brought to the take before is left out; a request
    /// without a cast, as that of a record, keeps it.
    pub(super) fn with_looks(&self, text: &str, takes: &Capabilities) -> Request {
        let mut request = self.clone();
        if self.board.cast.is_empty() {
            return request;
        }
        let settings = &mut request.settings;
        settings.references.retain(|other| other.member.is_none());
        settings.loras.retain(|other| other.member.is_none());
        let likeness = settings.likeness.clone().unwrap_or_default();
        let room = takes.references.saturating_sub(settings.references.len());
        let there = self.in_picture(text);
        if likeness.strength > 0.0 {
            let mut references = self.references(&there, &likeness, takes);
            references.truncate(room);
            // One IP-Adapter reads all pictures that it is given, in one way; where the author gave
            // it others, the model itself looks at these.
            let mut others = settings.references.iter();
            if others.any(|other| other.adapter.is_some()) {
                for other in &mut references {
                    (other.adapter, other.encoder) = (None, None);
                }
            }
            settings.references.extend(references);
        }
        for member in there {
            if let Some(lora) = member.lora.clone().filter(|_| takes.loras)
                && !settings.loras.iter().any(|other| other.file == lora.file)
            {
                settings.loras.push(LoraUse {
                    member: Some(member.id),
                    ..lora
                });
            }
            if let Some(used) = member.embedding.clone().filter(|_| takes.embeddings)
                && !settings
                    .embeddings
                    .iter()
                    .any(|other| other.file == used.file)
            {
                settings.embeddings.push(used);
            }
        }
        request
    }

    /// The first picture of each, then the second of each, and so on: with room for a few,
    /// everybody is seen.
    fn references(
        &self,
        there: &[&Member],
        how: &Likeness,
        takes: &Capabilities,
    ) -> Vec<Reference> {
        let (sees, staged) = (takes.sees, takes.prompts == PromptStyle::Composition);
        // On a stage everybody stands once.
        let one = |most: usize| if staged { most.min(1) } else { most };
        let most = there.iter().map(|member| member.pictures.len()).max();
        let mut references = Vec::new();
        for turn in 0..one(most.unwrap_or(0)) {
            for member in there {
                let Some(image) = member.pictures.get(turn) else {
                    continue;
                };
                let drawn_from = self.board.drawn_from.iter().find(|(id, _)| id == image);
                let prompt = match drawn_from {
                    // By its name the prompt says where it stands, by its looks how large it is.
                    _ if staged => named_looks(member),
                    // Whoever sees the picture is told who it is.
                    _ if sees => introduction(member),
                    Some((_, prompt)) => prompt.clone(),
                    None => member.description.trim().to_owned(),
                };
                let whole = Likeness::default();
                references.push(Reference {
                    image: image.clone(),
                    strength: if sees { 1.0 } else { how.strength },
                    start: if sees { whole.start } else { how.start },
                    end: if sees { whole.end } else { how.end },
                    prompt,
                    adapter: how.adapter.clone(),
                    encoder: how.encoder.clone(),
                    member: Some(member.id),
                });
            }
        }
        references
    }

    /// The reference pictures of the settings with their captions, which a model that sees reads
    /// before the story.
    pub(super) fn introduced(&self) -> Vec<ContextPanel> {
        let references = self.settings.references.iter();
        let panels = references.map(|reference| ContextPanel {
            id: PanelId(0),
            // What the author named beside the cast is shown without words.
            text: match reference.member {
                Some(_) => reference.prompt.clone(),
                None => String::new(),
            },
            picture: self.images.shown(&reference.image),
        });
        panels.collect()
    }

    /// `prompt` with the looks of whoever is in the picture of `text`, as far as it does not say
    /// them already: `Milo runs, Milo: red scarf, gap tooth`.
    pub(super) fn with_descriptions(
        &self,
        prompt: &str,
        text: &str,
        takes: &Capabilities,
    ) -> String {
        let mut whole = prompt.trim().to_owned();
        for member in self.in_picture(text) {
            let lower = whole.to_lowercase();
            let word = member.embedding.as_ref().filter(|_| takes.embeddings);
            let word = word.map(|used| embedding_name(&used.file));
            let parts = member.description.split([',', ';', '\n']).map(str::trim);
            let parts: Vec<&str> = word
                .as_deref()
                .into_iter()
                .chain(parts)
                .filter(|part| !part.is_empty() && !lower.contains(&part.to_lowercase()))
                .collect();
            if parts.is_empty() {
                continue;
            }
            let looks = parts.join(", ");
            let ended = whole.ends_with(['.', '!', '?', ',', ';']);
            whole.push_str(if whole.is_empty() || ended { " " } else { ", " });
            match member.name.trim() {
                "" => whole.push_str(&looks),
                name => whole.push_str(&format!("{name}: {looks}")),
            }
        }
        whole.trim().to_owned()
    }

    /// The texts before in words of the storyworld: a member whose description names somebody or
    /// some place there is called that.
    pub(super) fn texts_in_storyworld(&self) -> Vec<String> {
        let everybody: Vec<&Member> = self.board.cast.iter().collect();
        let texts = self.texts_before();
        let texts = texts.iter().map(|text| self.renamed(text, &everybody));
        texts.collect()
    }

    /// The same of the panel's text. Who is in the panel and not in its text is named behind it.
    pub(super) fn in_storyworld(&self, text: &str) -> String {
        let there = self.in_picture(text);
        let mut renamed_text = self.renamed(text, &there);
        let named = mentions(&renamed_text);
        let words = there.into_iter().filter_map(storyworld_word);
        let unsaid = words.filter(|word| {
            let word = mentions(word);
            let unsaid = |subject| !named.subjects.contains(subject);
            word.subjects.iter().any(unsaid) || (word.place.is_some() && named.place.is_none())
        });
        for word in unsaid {
            renamed_text.push_str(&format!(" The {word}."));
        }
        renamed_text
    }

    fn renamed(&self, text: &str, whom: &[&Member]) -> String {
        let mut renamed_text = String::new();
        let mut at = 0;
        for name in name_mentions(&self.board.cast, text) {
            let member = whom.iter().find(|member| member.id == name.member);
            let word = member.and_then(|member| storyworld_word(member));
            let Some(word) = word.filter(|_| !is_known(&text[name.start..name.end])) else {
                continue;
            };
            renamed_text.push_str(&text[at..name.start]);
            let before = renamed_text
                .trim_end()
                .rsplit(' ')
                .next()
                .unwrap_or_default();
            let article = match before.to_lowercase().as_str() {
                "" => "The ",
                before if before.ends_with(['.', '!', '?']) => "The ",
                before if ARTICLES.contains(&before) => "",
                _ => "the ",
            };
            renamed_text.push_str(article);
            renamed_text.push_str(word);
            at = name.end;
        }
        renamed_text.push_str(&text[at..]);
        renamed_text
    }
}

/// `Milo: small, red scarf`
fn named_looks(member: &Member) -> String {
    let looks = member.description.trim().trim_end_matches('.');
    match looks {
        "" => member.name.trim().to_owned(),
        looks => format!("{}: {looks}", member.name.trim()),
    }
}

/// `This is Milo: small, red scarf.`
fn introduction(member: &Member) -> String {
    let name = member.name.trim();
    let looks = member.description.trim().trim_end_matches('.');
    match (name, looks) {
        ("", "") => String::new(),
        ("", looks) => format!("This is {looks}."),
        (name, "") => format!("This is {name}."),
        (name, looks) => format!("This is {name}: {looks}."),
    }
}

fn is_known(word: &str) -> bool {
    let found = mentions(word);
    !found.subjects.is_empty() || found.place.is_some()
}

/// Who or what the storyworld has that a member is.
fn storyworld_word(member: &Member) -> Option<&'static str> {
    let found = mentions(&member.description);
    let place = found.place.map(|place| place.name());
    let subject = found.subjects.first().map(|subject| subject.name());
    match member.kind {
        MemberKind::Place => place.or(subject),
        MemberKind::Character | MemberKind::Thing => subject.or(place),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::BoardContext;
    use crate::story::{FileUse, ImageId, MemberId, Settings};
    use image::RgbaImage;

    fn picture(side: u32) -> ImageId {
        ImageId::of(&RgbaImage::new(side, side))
    }

    fn request() -> Request {
        let milo = Member {
            name: "Milo".into(),
            other_names: vec!["the boy".into()],
            description: "small fox, red scarf".into(),
            pictures: vec![picture(1), picture(2)],
            lora: Some(LoraUse {
                file: "milo.safetensors".into(),
                weight: 0.7,
                ..LoraUse::default()
            }),
            ..Member::new(MemberId(1))
        };
        let ann = Member {
            name: "Ann".into(),
            description: "an owl".into(),
            pictures: vec![picture(3)],
            embedding: Some(FileUse {
                file: "/x/ann-face.pt".into(),
                hash: String::new(),
            }),
            ..Member::new(MemberId(2))
        };
        Request {
            board: BoardContext {
                cast: vec![milo, ann],
                drawn_from: vec![(picture(2), "a fox with a scarf".into())],
                ..BoardContext::default()
            },
            ..Request::default()
        }
    }

    fn all() -> Capabilities {
        Capabilities {
            references: 3,
            loras: true,
            embeddings: true,
            ..Capabilities::default()
        }
    }

    #[test]
    fn who_is_in_a_panel_brings_pictures_and_files_in_turn() {
        let request = request();
        let made = request.with_looks("Ann sees the boy.", &all()).settings;
        let seen: Vec<_> = made
            .references
            .iter()
            .map(|r| (&r.image, &*r.prompt))
            .collect();
        let [one, two, three] = [1, 2, 3].map(picture);
        assert_eq!(
            seen,
            [
                (&three, "an owl"),
                (&one, "small fox, red scarf"),
                (&two, "a fox with a scarf")
            ]
        );
        assert_eq!(made.loras[0].member, Some(MemberId(1)));
        assert_eq!(made.embeddings[0].file, "/x/ann-face.pt");
        // The next picture, of Ann alone, keeps nothing of Milo's.
        let next = Request {
            settings: made.clone(),
            ..request.clone()
        };
        let next = next.with_looks("Ann sleeps.", &all()).settings;
        assert_eq!((next.references.len(), next.loras.len()), (1, 0));
        // A record is drawn again as it is, without the story's cast.
        let again = Request {
            settings: made.clone(),
            ..Request::default()
        };
        assert_eq!(again.with_looks("Ann sees the boy.", &all()).settings, made);
        // What the painter can't take is not asked of it, and neither is what was switched off.
        let plain = request.with_looks("Milo and Ann.", &Capabilities::default());
        assert_eq!(plain.settings, request.settings);
        let file = |name: &str| {
            Some(FileUse {
                file: name.into(),
                hash: String::new(),
            })
        };
        let adapted = Request {
            settings: Settings {
                likeness: Some(Likeness {
                    adapter: file("plus.safetensors"),
                    encoder: file("encoder"),
                    ..Likeness::default()
                }),
                ..Settings::default()
            },
            ..request.clone()
        };
        let adapted = adapted.with_looks("Ann sees the boy.", &all()).settings;
        let read: Vec<bool> = adapted
            .references
            .iter()
            .map(|r| r.adapter.is_some())
            .collect();
        assert_eq!(read, [true, true, true]);
        let mut off = request.clone();
        off.settings.likeness = Some(Likeness {
            strength: 0.0,
            ..Likeness::default()
        });
        assert!(
            off.with_looks("Milo.", &all())
                .settings
                .references
                .is_empty()
        );
    }

    #[test]
    fn the_authors_word_on_who_is_there_counts() {
        let request = Request {
            cast: Some(vec![MemberId(2)]),
            ..request()
        };
        let made = request.with_looks("Milo runs.", &all()).settings;
        assert_eq!(made.references.len(), 1);
        let prompt = request.with_descriptions("Milo runs.", "Milo runs.", &all());
        assert_eq!(prompt, "Milo runs. Ann: ann-face, an owl");
    }

    #[test]
    fn descriptions_are_said_once() {
        let request = request();
        let said = |prompt: &str| request.with_descriptions(prompt, "The boy runs.", &all());
        assert_eq!(
            said("The boy runs"),
            "The boy runs, Milo: small fox, red scarf"
        );
        assert_eq!(
            said("a small fox runs in a Red Scarf"),
            "a small fox runs in a Red Scarf"
        );
        assert_eq!(said("a small fox"), "a small fox, Milo: red scarf");
        let nobody = request.with_descriptions("Rain", "Rain.", &all());
        assert_eq!(nobody, "Rain");
    }

    #[test]
    fn a_model_that_sees_is_introduced_and_the_storyworld_hears_its_own_words() {
        let request = request();
        let sees = Capabilities {
            sees: true,
            ..all()
        };
        let seen = request.with_looks("Milo runs.", &sees);
        let told: Vec<String> = seen.introduced().into_iter().map(|p| p.text).collect();
        assert_eq!(told, ["This is Milo: small fox, red scarf."; 2]);
        assert!(seen.settings.references.iter().all(|r| r.strength == 1.0));
        assert_eq!(
            request.in_storyworld("Milo meets Ann. Ann hoots."),
            "The fox meets the owl. The owl hoots."
        );
        let with_ann = Request {
            cast: Some(vec![MemberId(1), MemberId(2)]),
            ..request.clone()
        };
        assert_eq!(
            with_ann.in_storyworld("Milo sleeps."),
            "The fox sleeps. The owl."
        );
        let later = Request {
            context: [("Milo ran.", 1), ("Rain fell.", 2)]
                .map(|(text, id)| ContextPanel {
                    id: PanelId(id),
                    text: text.into(),
                    picture: None,
                })
                .to_vec(),
            ..request
        };
        assert_eq!(later.naming_text(), "Milo ran.");
    }
}
