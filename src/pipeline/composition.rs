//! Picture prompts for a painter that draws from the library: who is in a panel, from left to
//! right, where and when.
//!
//! A sentence in a story leaves out what the reader knows: who "she" is, where everybody still is.
//! That is carried over from the panels before. Who is in the cast is called by name; every other
//! noun finds its drawing in the library.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use image::RgbaImage;

use super::Request;
use super::carry::{CARRIED, by_opening, carry_over, has_plural_pronoun};
use super::sightings::Sightings;
use crate::story::{Member, MemberId, MemberKind, name_mentions};
use crate::storyworld::library::{
    CompositionPrompt, CompositionSubject, DRAWING_SIDE, DrawingId, DrawingKind, DrawnNoun,
    Location, MAX_FIGURES, NounFit, SceneSetting, SettingMentions, cut_out, drawing, drawn_nouns,
    given_name,
};
use crate::storyworld::{PanelMentions, Place, Referent, Time, Weather, mention_features, words};
use crate::words::forms;

/// Nouns by which a story speaks of somebody whom it has named already.
const OF_THE_STORY: [&str; 6] = [
    "friend", "friends", "someone", "somebody", "sibling", "people",
];

/// Most that are drawn of whom a sentence leaves to the story: pictures of four come out small.
const MOST: usize = 3;

/// Where a story plays that names no place.
const USUAL: [Place; 5] = [
    Place::Forest,
    Place::Garden,
    Place::Village,
    Place::River,
    Place::Beach,
];

/// Somebody or something of a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entity {
    /// What the prompt calls it.
    name: String,
    who: Who,
    /// Whether it acts.
    character: bool,
    /// Lower is drawn first where there is no room for all.
    rank: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Member(MemberId),
    Drawing(DrawingId),
}

/// Who is there, where and when, as far as the story has said it.
#[derive(Clone, Debug, Default)]
struct Scene {
    entities: Vec<Entity>,
    location: Option<Location>,
    time: Option<Time>,
    weather: Option<Weather>,
}

/// Somebody who could be in a picture.
pub(super) struct Candidate {
    entity: Entity,
    /// Whether the text names them.
    named: bool,
}

impl Candidate {
    /// What they are called.
    pub(super) fn name(&self) -> &str {
        &self.entity.name
    }
}

/// Words of a description that may be what the story calls somebody: "old woman", "guide dog".
const NOUN_WORDS: usize = 3;

/// What being named by a sentence adds to the logit of being in its picture: of held-out stories, the
/// more it is the more come out right, until hardly anybody who is named is left out.
const NAMED: f32 = 5.0;

impl Request {
    /// Whom a picture of `text` could show: whom it names, and everybody in the cast.
    pub(super) fn candidates_of(&self, text: &str) -> Vec<Candidate> {
        let named = self.entities(text).into_iter();
        let mut all: Vec<Candidate> = named
            .map(|entity| Candidate {
                entity,
                named: true,
            })
            .collect();
        for member in &self.board.cast {
            if let Some(entity) = self.member(member.id)
                && all.iter().all(|other| other.entity.who != entity.who)
            {
                all.push(Candidate {
                    entity,
                    named: false,
                });
            }
        }
        all
    }

    /// How each of the pictures of `candidate` would be drawn, or what its noun is drawn as; `None` of whom
    /// is not in the cast.
    pub(super) fn pictures_of(
        &self,
        candidate: &Candidate,
    ) -> Option<(MemberId, Vec<CompositionSubject>)> {
        let Who::Member(id) = candidate.entity.who else {
            return None;
        };
        let member = self.member_of(id)?;
        let called = format!("{}: {}", member.name, member.description);
        let like = drawn_nouns(&called).first().map(|noun| noun.drawing);
        if member.pictures.is_empty() {
            return Some((
                id,
                like.map(CompositionSubject::Drawing).into_iter().collect(),
            ));
        }
        let pictures = member.pictures.iter();
        let pictures = pictures.filter_map(|id| self.images.get(id));
        let cut = |picture: Arc<RgbaImage>| CompositionSubject::Picture {
            picture: cut_out(&picture),
            like,
        };
        Some((id, pictures.map(cut).collect()))
    }

    /// What the story up to `text` says of each of `candidates`: its words, and its pictures by whom of
    /// them they show.
    pub(super) fn mention_features(
        &self,
        text: &str,
        candidates: &[Candidate],
        seen: &Sightings,
    ) -> Vec<f32> {
        let before = self.context.iter().enumerate().map(|(at, panel)| {
            let shown = seen.shown.get(at).and_then(Option::as_deref);
            PanelMentions {
                text: &panel.text,
                shown,
            }
        });
        let told = |panel: &PanelMentions| !panel.text.trim().is_empty() || panel.shown.is_some();
        let own = PanelMentions { text, shown: None };
        let panels: Vec<PanelMentions> = before.filter(told).chain([own]).collect();
        let referents: Vec<Referent> = candidates
            .iter()
            .map(|one| {
                let mut names = vec![one.name().to_owned()];
                if let Who::Member(id) = one.entity.who
                    && let Some(member) = self.member_of(id)
                {
                    names.extend(member.names().map(str::to_owned));
                    if words(&member.description).count() <= NOUN_WORDS {
                        names.push(member.description.clone());
                    }
                }
                Referent {
                    names,
                    acts: one.entity.character,
                }
            })
            .collect();
        mention_features(&panels, &referents)
    }

    /// The prompt of a picture of `text` that shows those of `candidates` whose `scores` say so
    /// (the logit of being shown, and where they stand), in `setting` as far as the text says
    /// nothing else; `None` where that is nobody.
    pub(super) fn composition_of(
        &self,
        text: &str,
        candidates: Vec<Candidate>,
        scores: &[(f32, f32)],
        setting: SceneSetting,
    ) -> Option<String> {
        let shown = |one: &Candidate, logit: f32| match (&self.cast, one.entity.who) {
            // Whom the author put there.
            (Some(ids), Who::Member(id)) => match ids.contains(&id) {
                true => f32::MAX,
                false => f32::MIN,
            },
            _ if one.named => logit + NAMED,
            _ => logit,
        };
        let scored = candidates.iter().zip(scores);
        let mut all: Vec<(f32, f32, &Candidate)> = scored
            .map(|(one, (logit, place))| (shown(one, *logit), *place, one))
            .collect();
        all.sort_by(|a, b| b.0.total_cmp(&a.0));
        let sure = all.iter().filter(|(logit, ..)| *logit > 0.0).count();
        if sure == 0 {
            return None;
        }
        let others = all.split_off(sure);
        let mut shown = all;
        // "They" are two at least, whom the author did not choose.
        if self.cast.is_none() && has_plural_pronoun(text) {
            let others = others.into_iter().filter(|(.., one)| one.entity.character);
            shown.extend(others.take(2usize.saturating_sub(sure)));
        }
        // Whoever is named or chosen comes first, and nobody of them is left out.
        let due = |(logit, _, one): &&(f32, f32, &Candidate)| one.named || *logit == f32::MAX;
        let named = shown.iter().filter(due).count();
        shown.truncate(named.clamp(MOST, MAX_FIGURES));
        shown.sort_by(|a, b| a.1.total_cmp(&b.1));
        let names: Vec<&str> = shown.iter().map(|(.., one)| one.name()).collect();
        let said = SettingMentions::of(text);
        let location = said.location.unwrap_or(setting.location);
        let setting = SceneSetting {
            location,
            time: said.time.unwrap_or(setting.time),
            weather: match location.has_weather() {
                true => said.weather.unwrap_or(setting.weather),
                false => Weather::Clear,
            },
            ..setting
        };
        Some(CompositionPrompt::write(&names, &setting.description()))
    }

    /// The prompt of a picture of `text`.
    pub(super) fn composition_prompt(&self, text: &str) -> String {
        let told = self.texts_before();
        let before = told.iter().fold(Scene::default(), |before, text| {
            self.after(&before, text, None)
        });
        let scene = self.after(&before, text, self.cast.as_deref());
        let location = scene.location.unwrap_or_else(|| {
            Location::Story(by_opening(
                told.first().map_or(text, String::as_str),
                &USUAL,
            ))
        });
        let setting = SceneSetting {
            location,
            time: scene.time.unwrap_or(Time::Day),
            weather: scene.weather.unwrap_or(Weather::Clear),
            layout: 0,
            fall: 0,
        };
        let names: Vec<&str> = scene.entities.iter().map(|e| e.name.as_str()).collect();
        CompositionPrompt::write(&names, &setting.description())
    }

    /// Those whom a picture of `text` that is drawn from `prompt` shows and who are not in the cast
    /// yet, each with its drawing, without ids. Whom the text gives a name is called by it.
    pub(super) fn newcomers(&self, text: &str, prompt: &str) -> Vec<(Member, RgbaImage)> {
        let nouns = drawn_nouns(text);
        let named = |drawing: DrawingId| {
            let mut nouns = nouns.iter().filter(|noun| noun.drawing == drawing);
            nouns.find_map(|noun| given_name(text, noun))
        };
        let mut all: Vec<(Member, RgbaImage)> = Vec::new();
        for entity in self.entities(prompt) {
            let Who::Drawing(id) = entity.who else {
                continue;
            };
            let known = |member: &Member| {
                let mut names = member.names();
                names.any(|name| drawn_nouns(name).iter().any(|found| found.drawing == id))
            };
            if self.board.cast.iter().any(known) || all.iter().any(|(member, _)| known(member)) {
                continue;
            }
            let member = Member {
                kind: match entity.character {
                    true => MemberKind::Character,
                    false => MemberKind::Thing,
                },
                description: match named(id) {
                    Some(_) => entity.name.clone(),
                    None => id.get().noun().to_owned(),
                },
                name: named(id).map_or(entity.name, str::to_owned),
                ..Member::default()
            };
            all.push((member, drawing(id, DRAWING_SIDE)));
        }
        all
    }

    /// What `text` says, completed by what was so `before`; `cast` is whom the author put there.
    fn after(&self, before: &Scene, text: &str, cast: Option<&[MemberId]>) -> Scene {
        let said = SettingMentions::of(text);
        let moved = said.location.is_some() && said.location != before.location;
        let mut entities = self.entities(text);
        if let Some(ids) = cast {
            entities.retain(|entity| !matches!(entity.who, Who::Member(_)));
            let there = ids
                .iter()
                .filter_map(|id| self.member(*id))
                .collect::<Vec<_>>();
            entities.splice(0..0, there);
        } else {
            // Of things alone there is always room for who acts.
            let room = CARRIED.saturating_sub(entities.len()).max(1);
            let is_character = |entity: &Entity| entity.character;
            let is_same = |a: &Entity, b: &Entity| a.who == b.who;
            carry_over(
                &before.entities,
                text,
                &mut entities,
                room,
                is_character,
                is_same,
            );
        }
        choose(&mut entities);
        let place = || {
            let members = name_mentions(&self.board.cast, text).into_iter();
            let members = members.filter_map(|name| self.member_of(name.member));
            let mut places = members.filter(|member| member.kind == MemberKind::Place);
            places.find_map(|member| {
                let said = SettingMentions::of(&format!("in the {}", member.description));
                said.location
            })
        };
        Scene {
            entities,
            location: said.location.or_else(place).or(before.location),
            time: said.time.or(before.time),
            // Elsewhere the sky may be another.
            weather: said.weather.or(if moved { None } else { before.weather }),
        }
    }

    fn member_of(&self, id: MemberId) -> Option<&Member> {
        self.board.cast.iter().find(|member| member.id == id)
    }

    /// A member as it is drawn: by its picture, else by the first noun of its description or name
    /// that has a drawing; none for places and for whom nothing tells how they look.
    fn member(&self, id: MemberId) -> Option<Entity> {
        let member = self.member_of(id)?;
        if member.kind == MemberKind::Place {
            return None;
        }
        let described = || {
            let texts = [member.description.as_str(), member.name.as_str()];
            texts
                .into_iter()
                .find_map(|text| drawn_nouns(text).into_iter().next())
        };
        let name = match member.pictures.is_empty() {
            false => member.name.trim().to_owned(),
            true => described()?.noun,
        };
        Some(Entity {
            name,
            who: Who::Member(id),
            character: member.kind == MemberKind::Character,
            rank: 0,
        })
    }

    /// The member whom `noun` of `text` means: by its name in another number ("bees" by "a bee"), or by
    /// its description, if it is not "a" or "another" one: "the monkey" is Ben, who is a monkey.
    fn counted(&self, text: &str, noun: &DrawnNoun) -> Option<Entity> {
        let of_one = forms(&noun.noun);
        let is_noun = |name: &str| {
            let of_other = forms(&name.trim().to_lowercase());
            of_one.iter().any(|form| of_other.contains(form))
        };
        let before = text.get(..noun.at.start).unwrap_or_default();
        let article = words(before).last().unwrap_or_default();
        let another = ["a", "an", "another", "second"].contains(&article.as_str());
        let mut cast = self.board.cast.iter();
        let called = cast.find(|member| member.names().any(is_noun));
        let mut cast = self.board.cast.iter();
        let described = || cast.find(|member| !another && is_noun(&member.description));
        self.member(called.or_else(described)?.id)
    }

    /// Whom and what `text` names, in its order, each once.
    fn entities(&self, text: &str) -> Vec<Entity> {
        let members = name_mentions(&self.board.cast, text);
        let places = SettingMentions::of(text).places;
        let mut all: Vec<(usize, Entity)> = members
            .iter()
            .filter_map(|name| Some((name.start, self.member(name.member)?)))
            .collect();
        for found in drawn_nouns(text) {
            let apart = |start: usize, end: usize| found.at.end <= start || end <= found.at.start;
            let free = members.iter().all(|name| apart(name.start, name.end))
                && places.iter().all(|place| apart(place.start, place.end));
            // "a doctor called Mia" is Mia, where she is in the cast.
            let given = given_name(text, &found);
            let is_member = |name: &str| {
                let mut cast = self.board.cast.iter();
                cast.any(|member| member.names().any(|own| own == name))
            };
            if !free || given.is_some_and(is_member) {
                continue;
            }
            let entity = self.counted(text, &found).unwrap_or_else(|| Entity {
                who: Who::Drawing(found.drawing),
                character: found.drawing.get().kind.is_character(),
                rank: rank(found.drawing.get().kind, found.fit),
                name: found.noun,
            });
            all.push((found.at.start, entity));
        }
        // Behind the beginning of a story these words speak of those who are in it.
        all.retain(|(_, entity)| {
            self.context.is_empty() || !OF_THE_STORY.contains(&entity.name.as_str())
        });
        all.sort_by_key(|(at, _)| *at);
        let mut once: Vec<Entity> = Vec::new();
        for (_, entity) in all {
            if !once.iter().any(|other| other.who == entity.who) {
                once.push(entity);
            }
        }
        once
    }
}

fn rank(kind: DrawingKind, fit: NounFit) -> u8 {
    let near = match fit {
        NounFit::Same => 0,
        NounFit::Kind => 1,
        NounFit::Near => 3,
    };
    1 + near + 2 * u8::from(!kind.is_character())
}

/// Leaves as many as there is room for, in their order.
fn choose(entities: &mut Vec<Entity>) {
    let mut ranks: Vec<(u8, usize)> = entities.iter().map(|e| e.rank).zip(0..).collect();
    ranks.sort_unstable();
    ranks.truncate(MAX_FIGURES);
    let mut at = 0;
    entities.retain(|_| {
        at += 1;
        ranks.iter().any(|(_, kept)| *kept == at - 1)
    });
}
