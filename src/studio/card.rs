//! A panel on the board: its picture (or the picture in the making), number and text.

use std::sync::Arc;

use egui::{
    Align2, Color32, CornerRadius, CursorIcon, DragAndDrop, FontId, Frame, Image, Key,
    KeyboardShortcut, Margin, Mesh, Modifiers, Rect, Response, ScrollArea, Sense, Stroke, TextEdit,
    Ui, UiBuilder, Vec2, WidgetInfo,
};
use image::RgbaImage;

use super::actions::Action;
use super::casting;
use super::icons::{self, Icon};
use super::menus;
use super::script;
use super::state::State;
use super::textures::Textures;
use super::theme::{self, RADIUS};
use super::widgets;
use super::work::RunningJob;
use crate::story::{Panel, PanelId};
use crate::typefaces::has_right_to_left;

/// Heights of a card's text in points.
pub(super) const SHORTEST_TEXT: f32 = 66.0;
pub(super) const LONGEST_TEXT: f32 = 176.0;
/// What a card is taller than its picture and its text.
pub(super) const MARGINS: f32 = 24.0;
const SIDE: f32 = 14.0;

/// Which panel is drawn where.
#[derive(Clone, Copy)]
pub struct CardPosition {
    pub id: PanelId,
    pub index: usize,
    pub rect: Rect,
}

/// The height of every panel's text, in points, in cards `width` wide.
pub(super) fn text_heights(ui: &Ui, state: &State, width: f32) -> Vec<f32> {
    let wrap = width - 2.0 * SIDE;
    let font = theme::story_font();
    let height = |panel: &Panel| {
        let text = state.seen_text(panel.id);
        script::layout(ui, text, &font, Color32::BLACK, wrap)
            .size()
            .y
            + 6.0
    };
    state.panels().iter().map(height).collect()
}

pub(super) fn show(
    ui: &mut Ui,
    state: &mut State,
    textures: &mut Textures,
    actions: &mut Vec<Action>,
    drawn: CardPosition,
) {
    let p = theme::palette(ui);
    let CardPosition { id, index, rect } = drawn;
    let selected = state.is_chosen(id);
    let over = ui.rect_contains_pointer(rect);
    let card = ui.interact(rect, ui.scope_id().with("card"), Sense::click());
    if card.clicked() {
        actions.push(Action::Committed);
        choose(ui, actions, id);
    }
    card.context_menu(|ui| menus::panel(ui, state, actions, id));
    let radius = CornerRadius::same(RADIUS);
    ui.painter()
        .add(theme::card_shadow(p, selected || over).as_shape(rect, radius));
    ui.painter().rect_filled(rect, radius, p.card);

    let square = Rect::from_min_size(rect.min, Vec2::splat(rect.width()));
    face(ui, state, textures, actions, drawn, square);
    if selected {
        ui.painter().rect_stroke(
            rect,
            radius,
            Stroke::new(2.5, p.accent),
            egui::StrokeKind::Outside,
        );
    }

    let chips = casting::chips::height(state);
    let below = square.left_bottom() + egui::vec2(0.0, chips);
    let text =
        Rect::from_min_max(below, rect.max).shrink2(egui::vec2(SIDE - 4.0, MARGINS / 2.0 - 2.0));
    if chips > 0.0 {
        let row = Rect::from_min_max(square.left_bottom(), egui::pos2(rect.right(), below.y));
        let row = row
            .shrink2(egui::vec2(SIDE - 4.0, 0.0))
            .translate(egui::vec2(0.0, 5.0));
        casting::chips::show(ui, state, textures, actions, drawn, row);
    }
    match state.work.on(id).filter(|r| !r.text_done) {
        Some(running) => streaming(ui, running, index, text),
        None => editor(ui, state, actions, drawn, text),
    }
}

fn face(
    ui: &mut Ui,
    state: &State,
    textures: &mut Textures,
    actions: &mut Vec<Action>,
    drawn: CardPosition,
    square: Rect,
) {
    let p = theme::palette(ui);
    let CardPosition { id, index, .. } = drawn;
    let number = index + 1;
    let top = CornerRadius {
        nw: RADIUS,
        ne: RADIUS,
        sw: 0,
        se: 0,
    };
    let running = state.work.on(id).filter(|r| r.make.picture());
    let preview = running.and_then(|r| r.preview.clone());
    let making = running.is_some();
    let shown = preview.or_else(|| state.picture_of(id));

    let response = ui.interact(square, self::picture(id), Sense::click_and_drag());
    response.widget_info(|| {
        let name = if shown.is_some() {
            "Picture"
        } else {
            "Empty picture"
        };
        WidgetInfo::labeled(egui::Role::Button, true, format!("{name} {number}"))
    });
    match &shown {
        Some(picture) => {
            paint(ui, textures, id, picture, square, top);
        }
        None => {
            ui.painter().rect_filled(square, top, p.blank);
            let icon =
                Rect::from_center_size(square.center() - egui::vec2(0.0, 14.0), Vec2::splat(44.0));
            icons::image(ui.ctx(), Icon::Picture, 44.0)
                .tint(p.faint_ink.gamma_multiply(0.5))
                .paint_at(ui, icon);
            if !making {
                blank(ui, state, actions, drawn, square);
            }
        }
    }
    if response.has_focus() {
        ui.painter().rect_stroke(
            square.shrink(2.0),
            top,
            Stroke::new(2.0, p.accent),
            egui::StrokeKind::Inside,
        );
    }
    if let Some(running) = running {
        progress(ui, running, number, square);
    }
    grab(ui, &response, actions, drawn, shown.is_some());
    response.context_menu(|ui| menus::panel(ui, state, actions, id));

    let plate = p.card.gamma_multiply(0.92);
    let corner = square.left_top() + egui::vec2(10.0, 10.0);
    widgets::badge(
        ui,
        corner,
        Align2::LEFT_TOP,
        &number.to_string(),
        plate,
        p.ink,
    );
    marks(ui, state, drawn, square);
    tools(ui, actions, drawn, square, state.is_chosen(id));
}

/// What the author is to see of the picture at a glance: a favourite, one older than its text.
fn marks(ui: &Ui, state: &State, drawn: CardPosition, square: Rect) {
    let p = theme::palette(ui);
    let Some(panel) = state.panel(drawn.id) else {
        return;
    };
    if panel.picture().is_some_and(|take| take.starred) {
        let centre = square.left_top() + egui::vec2(50.0, 22.0);
        ui.painter().circle_filled(centre, 12.0, p.accent);
        icons::image(ui.ctx(), Icon::Star, 15.0)
            .tint(p.on_accent)
            .paint_at(ui, Rect::from_center_size(centre, Vec2::splat(15.0)));
        let place = ui.interact(
            Rect::from_center_size(centre, Vec2::splat(24.0)),
            ui.scope_id().with("favourite"),
            Sense::hover(),
        );
        place.widget_info(|| {
            let words = format!("Picture {} is a favourite", drawn.index + 1);
            WidgetInfo::labeled(egui::Role::Label, true, words)
        });
    }
    if panel.picture_is_older() && state.work.on(drawn.id).is_none() {
        let words = "older than its text";
        let corner = square.left_bottom() + egui::vec2(10.0, -10.0);
        let rect = widgets::badge(ui, corner, Align2::LEFT_BOTTOM, words, p.card, p.ink);
        let place = ui.interact(rect, ui.scope_id().with("older"), Sense::hover());
        place.widget_info(|| {
            let words = format!("Picture {} is {words}", drawn.index + 1);
            WidgetInfo::labeled(egui::Role::Label, true, words)
        });
        place.on_hover_text(
            "The text was changed after the picture was drawn; draw it again to match",
        );
    }
}

/// Draws `picture` whole and in its own shape, as large as `rect` allows, on a blank ground.
pub(super) fn paint(
    ui: &Ui,
    textures: &mut Textures,
    id: PanelId,
    picture: &Arc<RgbaImage>,
    rect: Rect,
    radius: CornerRadius,
) {
    let texture = textures.panel(ui.ctx(), id, picture);
    ui.painter()
        .rect_filled(rect, radius, theme::palette(ui).blank);
    let shown = widgets::fitted(texture.size_vec2(), rect);
    // Corners that meet the card's are as round as those.
    let meets = |a: f32, b: f32| (a - b).abs() < 1.0;
    let radius = if meets(shown.top(), rect.top()) && meets(shown.left(), rect.left()) {
        radius
    } else {
        CornerRadius::ZERO
    };
    Image::from_texture((texture.id(), shown.size()))
        .corner_radius(radius)
        .paint_at(ui, shown);
}

/// What an empty picture says: that it waits, or how to get one.
fn blank(ui: &mut Ui, state: &State, actions: &mut Vec<Action>, drawn: CardPosition, square: Rect) {
    let p = theme::palette(ui);
    let below = square.center() + egui::vec2(0.0, 34.0);
    if state.work.waits_for(drawn.id) {
        let font = FontId::proportional(13.5);
        ui.painter()
            .text(below, Align2::CENTER_CENTER, "waiting", font, p.faint_ink);
        return;
    }
    if state.work.on(drawn.id).is_some() {
        return;
    }
    let place = Rect::from_center_size(below, egui::vec2(150.0, 32.0));
    ui.scope_builder(UiBuilder::new().max_rect(place), |ui| {
        ui.vertical_centered(|ui| {
            let name = format!("Draw picture {}", drawn.index + 1);
            let button = egui::Button::new("Draw a picture").fill(p.card);
            if ui.add(button).accessible_name(name).clicked() {
                actions.push(Action::DrawPicture(drawn.id));
            }
        });
    });
}

/// "14/25" and a line along the picture's lower edge.
fn progress(ui: &mut Ui, running: &RunningJob, number: usize, square: Rect) {
    let p = theme::palette(ui);
    let words = if running.cancelled {
        "stopping".to_owned()
    } else if running.step == 0 {
        if running.text_done {
            "starting".to_owned()
        } else {
            "writing".to_owned()
        }
    } else {
        format!("{}/{}", running.step, running.steps)
    };
    let line = Rect::from_min_max(
        square.left_bottom() - egui::vec2(0.0, 5.0),
        square.right_bottom(),
    );
    let done = running.step as f32 / running.steps.max(1) as f32;
    widgets::progress_line(ui, line, done);
    let corner = square.right_bottom() - egui::vec2(10.0, 14.0);
    widgets::badge(
        ui,
        corner,
        Align2::RIGHT_BOTTOM,
        &words,
        p.accent,
        p.on_accent,
    );
    let place = ui.interact(line, ui.scope_id().with("progress"), Sense::hover());
    place.widget_info(|| {
        WidgetInfo::labeled(
            egui::Role::ProgressIndicator,
            true,
            format!("Picture {number}: {words}"),
        )
    });
}

fn grab(ui: &Ui, response: &Response, actions: &mut Vec<Action>, drawn: CardPosition, any: bool) {
    if response.drag_started() {
        DragAndDrop::set_payload(ui.ctx(), drawn.id);
    }
    if response.clicked() {
        actions.push(Action::Committed);
        choose(ui, actions, drawn.id);
    }
    let entered = response.has_focus() && ui.input(|i| i.key_pressed(Key::Enter));
    if any && (response.double_clicked() || entered) {
        actions.push(Action::Enlarge(Some(drawn.id)));
    }
    if response.gained_focus() && !response.clicked() {
        actions.push(Action::Select(Some(drawn.id)));
    }
    response.clone().on_hover_cursor(CursorIcon::Grab);
}

/// A click selects; with Ctrl it adds to what is chosen, with Shift it chooses all between.
fn choose(ui: &Ui, actions: &mut Vec<Action>, id: PanelId) {
    // Of a slow frame the keys count that were held when the button was.
    let held = ui.input(|i| {
        let clicks = i.events.iter().rev().filter_map(|event| match event {
            egui::Event::PointerButton { modifiers, .. } => Some(*modifiers),
            _ => None,
        });
        clicks.into_iter().next().unwrap_or(i.modifiers)
    });
    actions.push(if held.command {
        Action::Toggle(id)
    } else if held.shift {
        Action::Extend(id)
    } else {
        Action::Select(Some(id))
    });
}

/// Duplicate and delete, over the picture while the pointer is there or the panel is selected.
fn tools(
    ui: &mut Ui,
    actions: &mut Vec<Action>,
    drawn: CardPosition,
    square: Rect,
    selected: bool,
) {
    let over = ui.rect_contains_pointer(drawn.rect);
    let shown = ui
        .ctx()
        .animate_bool(ui.scope_id().with("tools"), over || selected);
    let size = Vec2::splat(30.0);
    let delete = Rect::from_min_size(square.right_top() + egui::vec2(-38.0, 8.0), size);
    let duplicate = delete.translate(egui::vec2(-36.0, 0.0));
    let number = drawn.index + 1;
    let name = format!("Duplicate panel {number}");
    if widgets::floating_button(ui, duplicate, Icon::Duplicate, &name, shown).clicked() {
        actions.push(Action::Duplicate(drawn.id));
    }
    let name = format!("Delete panel {number}");
    if widgets::floating_button(ui, delete, Icon::Trash, &name, shown).clicked() {
        actions.push(Action::Delete(drawn.id));
    }
}

/// Text as it comes, with a caret after it.
fn streaming(ui: &mut Ui, running: &RunningJob, index: usize, rect: Rect) {
    let p = theme::palette(ui);
    let text = running.text.trim_start();
    let width = rect.width() - 8.0;
    let galley = script::layout(ui, text, &theme::story_font(), p.ink, width);
    let place = ui.interact(rect, ui.scope_id().with("streaming"), Sense::hover());
    place.widget_info(|| {
        WidgetInfo::labeled(
            egui::Role::Paragraph,
            true,
            format!("Text of panel {}: {}", index + 1, running.text),
        )
    });
    // A text longer than its place shows its end, where it grows.
    let rise = (galley.size().y - rect.height()).max(0.0);
    let painter = ui.painter_at(rect.expand(2.0));
    let left = script::origin(text, rect.left() + 4.0, width);
    let at = egui::pos2(left, rect.top() - rise);
    let caret = galley.pos_from_cursor(galley.end());
    painter.galley(at, galley, p.ink);
    let caret = Rect::from_min_size(
        at + caret.min.to_vec2() + egui::vec2(2.0, 2.0),
        egui::vec2(8.0, (caret.height() - 4.0).max(12.0)),
    );
    painter.rect_filled(caret, 2.0, p.accent);
}

/// Lets a text that goes on below its place fade into its `ground`.
fn fade(ui: &Ui, rect: Rect, ground: Color32) {
    let band = rect
        .with_min_y(rect.bottom() - 26.0)
        .expand2(egui::vec2(2.0, 0.0));
    let mut mesh = Mesh::default();
    for (corner, ink) in [
        (band.left_top(), Color32::TRANSPARENT),
        (band.right_top(), Color32::TRANSPARENT),
        (band.left_bottom(), ground),
        (band.right_bottom(), ground),
    ] {
        mesh.colored_vertex(corner, ink);
    }
    mesh.add_triangle(0, 1, 2);
    mesh.add_triangle(1, 2, 3);
    ui.painter().add(mesh);
}

/// The text field of panel `id`.
pub(super) fn field(id: PanelId) -> egui::Id {
    egui::Id::unique(("panel text", id))
}

/// What can be clicked and dragged of the picture of panel `id`.
pub(super) fn picture(id: PanelId) -> egui::Id {
    egui::Id::unique(("panel picture", id))
}

/// A text that is read from right to left, while the cursor is not in it: egui's own field knows
/// one direction only.
fn at_rest(ui: &mut Ui, state: &mut State, drawn: CardPosition, rect: Rect) {
    let p = theme::palette(ui);
    let text = state.text_of(drawn.id).to_owned();
    let response = ui
        .interact(rect, ui.scope_id().with("at rest"), Sense::click())
        .on_hover_cursor(CursorIcon::Text);
    response.widget_info(|| {
        let name = format!("Text of panel {}", drawn.index + 1);
        let mut info = WidgetInfo::labeled(egui::Role::MultilineTextInput, true, name);
        info.current_text_value = Some(text.clone());
        info
    });
    let width = rect.width() - 8.0;
    let galley = script::layout(ui, &text, &theme::story_font(), p.ink, width);
    let goes_on = galley.size().y > rect.height() + 2.0;
    let left = script::origin(&text, rect.left() + 4.0, width);
    ui.painter_at(rect.expand(2.0))
        .galley(egui::pos2(left, rect.top()), galley, p.ink);
    if goes_on {
        fade(ui, rect, p.card);
    }
    if response.clicked() || response.gained_focus() {
        state.view.write_in = Some(drawn.id);
    }
}

fn editor(
    ui: &mut Ui,
    state: &mut State,
    actions: &mut Vec<Action>,
    drawn: CardPosition,
    rect: Rect,
) {
    let p = theme::palette(ui);
    let id = drawn.id;
    let mut text = state.text_of(id).to_owned();
    let focused = ui.memory(|m| m.has_focus(field(id)));
    if !focused && state.view.write_in != Some(id) && has_right_to_left(&text) {
        return at_rest(ui, state, drawn, rect);
    }
    let selected = state.view.selected == Some(id);
    let mut layouter = |ui: &Ui, buffer: &dyn egui::TextBuffer, width: f32| {
        let text = buffer.as_str();
        let found = match selected {
            true => state.unknown_in(text),
            false => Vec::new(),
        };
        let job = widgets::marked(ui, text, &found, &theme::story_font(), width);
        ui.fonts_mut(|fonts| fonts.layout_job(job))
    };
    if focused {
        ui.painter().rect_filled(rect.expand(2.0), 8.0, p.blank);
        let edge = Stroke::new(1.5, p.accent);
        ui.painter()
            .rect_stroke(rect.expand(2.0), 8.0, edge, egui::StrokeKind::Inside);
    }
    let shown = ui
        .scope_builder(UiBuilder::new().max_rect(rect), |ui| {
            ui.set_clip_rect(ui.clip_rect().intersect(rect.expand(2.0)));
            ScrollArea::vertical()
                .id_salt("text")
                .max_height(rect.height())
                .auto_shrink(false)
                .show(ui, |ui| {
                    ui.add(
                        TextEdit::multiline(&mut text)
                            .id(field(id))
                            .font(theme::story_font())
                            .text_color(p.ink)
                            .hint_text("Write what happens here…")
                            .layouter(&mut layouter)
                            .frame(Frame::NONE.inner_margin(Margin::symmetric(4, 0)))
                            .margin(Margin::symmetric(4, 0))
                            .desired_rows(2)
                            .desired_width(f32::INFINITY)
                            .return_key(KeyboardShortcut::new(Modifiers::SHIFT, Key::Enter)),
                    )
                })
        })
        .inner;
    if shown.state.clamped_offset().y + rect.height() + 2.0 < shown.content_size.y {
        fade(ui, rect, if focused { p.blank } else { p.card });
    }
    let response = shown
        .inner
        .accessible_name(format!("Text of panel {}", drawn.index + 1));
    if state.view.write_in == Some(id) {
        response.request_focus();
        state.view.write_in = None;
    }
    if response.changed() {
        actions.push(Action::Typed(id, text));
    }
    if response.gained_focus() {
        actions.push(Action::Select(Some(id)));
    }
    let leave =
        response.has_focus() && ui.input(|i| i.key_pressed(Key::Enter) && i.modifiers.is_none());
    if leave {
        response.surrender_focus();
    }
    if leave || response.lost_focus() {
        actions.push(Action::Committed);
    }
}
