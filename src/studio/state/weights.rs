//! Files of weights that the author chose for a picture or for a member of the cast.

use std::path::Path;
use std::time::Instant;

use super::State;
use super::framing::file_use;
use crate::story::{Edit, LoraUse, Settings};
use crate::studio::actions::InspectorControl;
use crate::studio::dialogs::WeightsFor;
use crate::studio::framing::FrameAction;

impl State {
    /// The file takes its place.
    pub(super) fn put_weights(&mut self, what: WeightsFor, path: &Path, now: Instant) {
        let file = path.to_string_lossy().into_owned();
        let used = file_use(&file);
        let mut settings: Settings = self.shown().clone();
        match what {
            WeightsFor::Vae => settings.vae = used,
            WeightsFor::Lora => settings.loras.push(LoraUse {
                file,
                weight: 1.0,
                ..LoraUse::default()
            }),
            WeightsFor::Adapter => settings.likeness.get_or_insert_default().adapter = used,
            WeightsFor::Encoder => settings.likeness.get_or_insert_default().encoder = used,
            WeightsFor::Controlnet => return self.frame(FrameAction::Controlnet(file), now),
            WeightsFor::Upscaler => return self.frame(FrameAction::Upscaler(file), now),
            WeightsFor::MemberLora(id) | WeightsFor::MemberEmbedding(id) => {
                let members = &self.story().cast;
                let Some(member) = members.iter().find(|member| member.id == id) else {
                    return;
                };
                let mut member = member.clone();
                match what {
                    WeightsFor::MemberEmbedding(_) => member.embedding = used,
                    _ => {
                        let weight = member.lora.as_ref().map_or(1.0, |lora| lora.weight);
                        member.lora = Some(LoraUse {
                            file,
                            weight,
                            ..LoraUse::default()
                        });
                    }
                }
                return self.edit(Edit::SetMember(member), now);
            }
        }
        self.set(InspectorControl::Picture(Box::new(settings)), now);
    }
}
