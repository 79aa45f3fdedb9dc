//! The sheet of a member: names, looks, pictures, and files that models were trained on.

use egui::{ComboBox, Image, Rect, Sense, Slider, TextEdit, Ui, Vec2, WidgetInfo};

use super::{CastAction, drawings};
use crate::pipeline::painter::PromptStyle;
use crate::story::{FileUse, ImageId, LoraUse, Member, MemberId, MemberKind};
use crate::studio::actions::Action;
use crate::studio::dialogs::WeightsFor;
use crate::studio::icons::Icon;
use crate::studio::inspector::{field, file_field, label};
use crate::studio::state::State;
use crate::studio::textures::Textures;
use crate::studio::{theme, widgets};

/// Side of a picture in points.
const PICTURE: f32 = 76.0;

const KINDS: [(MemberKind, &str); 3] = [
    (MemberKind::Character, "A character"),
    (MemberKind::Place, "A place"),
    (MemberKind::Thing, "A thing"),
];

/// Draws the sheet of the member `id`, or closes it where there is none.
pub fn show(
    ui: &mut Ui,
    state: &State,
    textures: &mut Textures,
    actions: &mut Vec<Action>,
    id: MemberId,
) {
    let Some(member) = state.story().member(id) else {
        actions.push(Action::Show(None));
        return;
    };
    ui.push_id(id.0, |ui| {
        let mut new = member.clone();
        if let Some(name) = field(ui, "Name", &member.name, "Milo") {
            new.name = name.trim().to_owned();
        }
        kind(ui, &mut new);
        let others = member.other_names.join(", ");
        if let Some(names) = field(
            ui,
            "Other names, with commas between them",
            &others,
            "the boy, my brother",
        ) {
            let names = names.split([',', '、', '，', '،']).map(str::trim);
            new.other_names = names
                .filter(|name| !name.is_empty())
                .map(str::to_owned)
                .collect();
        }
        description(ui, member, &mut new);
        pictures(ui, state, textures, actions, &mut new);
        if state
            .takes()
            .is_some_and(|takes| takes.prompts == PromptStyle::Composition)
        {
            drawings::choose(ui, textures, actions, member);
        }
        files(ui, actions, &mut new);
        if new != *member {
            actions.push(Action::Cast(CastAction::Set(Box::new(new))));
        }
        ui.add_space(10.0);
        if widgets::button(ui, Icon::Trash, "Take out of the cast", true).clicked() {
            actions.push(Action::Cast(CastAction::Remove(id)));
        }
    });
}

fn kind(ui: &mut Ui, member: &mut Member) {
    let name = |kind| {
        KINDS
            .iter()
            .find(|(other, _)| *other == kind)
            .map_or("", |(_, name)| *name)
    };
    ui.add_space(4.0);
    let response = ComboBox::from_id_salt("kind of member")
        .selected_text(name(member.kind))
        .show_ui(ui, |ui| {
            for (kind, name) in KINDS {
                if ui.selectable_label(member.kind == kind, name).clicked() {
                    member.kind = kind;
                }
            }
        })
        .response;
    response.accessible_name("Kind of member");
}

/// Several lines, kept while the cursor is in them.
fn description(ui: &mut Ui, member: &Member, new: &mut Member) {
    const NAME: &str = "How it looks, in the words of a picture prompt";
    label(ui, NAME);
    let kept = ui.scope_id().with(NAME);
    let typed = ui.data_mut(|data| data.get_temp::<String>(kept));
    let mut text = typed.unwrap_or_else(|| member.description.clone());
    let edit = TextEdit::multiline(&mut text)
        .hint_text("small, red scarf, gap tooth")
        .desired_rows(2)
        .desired_width(f32::INFINITY);
    let response = ui.add(edit).accessible_name(NAME);
    if response.has_focus() {
        ui.data_mut(|data| data.insert_temp(kept, text));
        return;
    }
    ui.data_mut(|data| data.remove::<String>(kept));
    if response.lost_focus() {
        new.description = text.trim().to_owned();
    }
}

fn pictures(
    ui: &mut Ui,
    state: &State,
    textures: &mut Textures,
    actions: &mut Vec<Action>,
    member: &mut Member,
) {
    label(
        ui,
        "Pictures: drop them here, or say of a take or of a box on it who it is",
    );
    let mut gone = None;
    ui.horizontal_wrapped(|ui| {
        for (at, id) in member.pictures.iter().enumerate() {
            if picture(ui, state, textures, id, at) {
                gone = Some(at);
            }
        }
        if widgets::button(ui, Icon::Plus, "Add a picture…", true).clicked() {
            actions.push(Action::Cast(CastAction::AskPicture(member.id)));
        }
    });
    if let Some(at) = gone {
        member.pictures.remove(at);
    }
}

/// A picture with a button that takes it away; true where that was pressed.
fn picture(ui: &mut Ui, state: &State, textures: &mut Textures, id: &ImageId, at: usize) -> bool {
    let p = theme::palette(ui);
    let (rect, response) = ui.allocate_exact_size(Vec2::splat(PICTURE), Sense::hover());
    response.widget_info(|| {
        WidgetInfo::labeled(egui::Role::Image, true, format!("Picture {} of it", at + 1))
    });
    ui.painter().rect_filled(rect, 8.0, p.blank);
    if let Some(picture) = state.board.images.shown(id) {
        let texture = textures.thumbnail(ui.ctx(), id, &picture);
        let place = widgets::fitted(texture.size_vec2(), rect);
        Image::from_texture((texture.id(), place.size())).paint_at(ui, place);
    }
    let corner = Rect::from_center_size(
        rect.right_top() + egui::vec2(-13.0, 13.0),
        Vec2::splat(22.0),
    );
    let name = format!("Without picture {}", at + 1);
    widgets::floating_button(ui, corner, Icon::Close, &name, 1.0).clicked()
}

/// A LoRA and an embedding, by their paths.
fn files(ui: &mut Ui, actions: &mut Vec<Action>, member: &mut Member) {
    let file = member
        .lora
        .as_ref()
        .map_or("", |lora| &lora.file)
        .to_owned();
    let line = ("LoRA that was trained on it", file.as_str(), "its file");
    let what = WeightsFor::MemberLora(member.id);
    if let Some(file) = file_field(ui, actions, line, what) {
        let file = file.trim().to_owned();
        let weight = member.lora.as_ref().map_or(1.0, |lora| lora.weight);
        member.lora = (!file.is_empty()).then_some(LoraUse {
            file,
            weight,
            ..LoraUse::default()
        });
    }
    if let Some(lora) = &mut member.lora {
        let value = format!("{:.2}", lora.weight);
        let slider = Slider::new(&mut lora.weight, -1.0..=2.0).step_by(0.05);
        widgets::named_slider(ui, "Weight of the LoRA", value, slider);
    }
    let file = member
        .embedding
        .as_ref()
        .map_or("", |used| &used.file)
        .to_owned();
    let line = (
        "Embedding that was trained on it",
        file.as_str(),
        "its file",
    );
    let what = WeightsFor::MemberEmbedding(member.id);
    if let Some(file) = file_field(ui, actions, line, what) {
        let file = file.trim().to_owned();
        member.embedding = (!file.is_empty()).then_some(FileUse {
            file,
            hash: String::new(),
        });
    }
}
