//! Tools over a picture that is open large: brush, box, crop, and the frame itself.

use egui::{
    CursorIcon, DragValue, Pos2, Rect, Response, Sense, Slider, Stroke, StrokeKind, Ui, Vec2,
    WidgetInfo,
};

use super::{FrameAction, PictureUse, Tool};
use crate::story::{Margins, PanelId, Retouch};
use crate::studio::actions::Action;
use crate::studio::canvas::Brush;
use crate::studio::casting::{self, CastAction, ReferencePlace};
use crate::studio::icons::Icon;
use crate::studio::state::State;
use crate::studio::textures::Textures;
use crate::studio::{theme, widgets};

/// Share of its place that a picture leaves to the frame around it.
const AROUND: f32 = 0.17;
/// Most and step of what a picture is extended by, in pixels.
const MOST: u32 = 1024;
const STEP: u32 = 8;

/// What a mask is painted in: no picture is of this blue all over, and what lies below is seen.
const MASK: egui::Color32 = egui::Color32::from_rgba_premultiplied(34, 40, 140, 150);

/// Where the picture lies in `place` with the tool in hand.
pub fn room(state: &State, place: Rect) -> Rect {
    match state.framing.tool {
        Some(Tool::Extend) => place.shrink2(place.size() * AROUND),
        _ => place,
    }
}

/// The tools, and below them what the one in hand can do.
pub fn bar(ui: &mut Ui, id: PanelId, state: &State, actions: &mut Vec<Action>) {
    let shown = state
        .panel(id)
        .is_some_and(|panel| panel.picture().is_some());
    if !shown || state.view.compare.is_some() {
        return;
    }
    let inpaints = state.takes().is_some_and(|takes| takes.mask);
    let held = state.framing.tool;
    ui.horizontal_wrapped(|ui| {
        ui.add_space(8.0);
        let mut tools = vec![
            (
                Tool::Who,
                "Who is this?",
                "Draw a box around somebody of the cast",
            ),
            (Tool::Crop, "Crop", "Keep a part of the picture"),
        ];
        if inpaints {
            let mask = "Paint over what is to be drawn anew";
            tools.insert(0, (Tool::Mask, "Redraw a part", mask));
            tools.insert(
                1,
                (Tool::Extend, "Extend", "Draw what lies outside the frame"),
            );
        }
        for (tool, words, hint) in tools {
            let on = held == Some(tool);
            if ui.selectable_label(on, words).on_hover_text(hint).clicked() {
                let tool = Some(tool).filter(|_| !on);
                actions.push(Action::Frame(FrameAction::Take(id, tool)));
            }
        }
        for (icon, name, how) in [
            (Icon::FlipSides, "Flip sideways", Retouch::FlipHorizontal),
            (Icon::FlipOver, "Flip upside down", Retouch::FlipVertical),
            (Icon::TurnLeft, "Turn left", Retouch::RotateLeft),
            (Icon::TurnRight, "Turn right", Retouch::RotateRight),
        ] {
            if widgets::icon_button(ui, icon, name, true).clicked() {
                actions.push(Action::Frame(FrameAction::Retouch(id, how)));
            }
        }
    });
    let Some(tool) = held else { return };
    if tool == Tool::Mask {
        ui.horizontal_wrapped(|ui| {
            ui.add_space(8.0);
            brush(ui, state, actions);
        });
    }
    ui.horizontal_wrapped(|ui| {
        ui.add_space(8.0);
        match tool {
            Tool::Mask => mask(ui, id, state, actions),
            Tool::Scribble(_) => scribble(ui, id, state, actions),
            Tool::Who => who(ui, id, state, actions),
            Tool::Crop => crop(ui, id, state, actions),
            Tool::Extend => extend(ui, id, state, actions),
        }
    });
}

fn brush(ui: &mut Ui, state: &State, actions: &mut Vec<Action>) {
    let now = state.framing.brush;
    let mut new = now;
    ui.spacing_mut().slider_width = 90.0;
    ui.label("Size");
    let slider = Slider::new(&mut new.size, 0.01..=0.5).show_value(false);
    ui.add(slider).accessible_name("Brush size");
    ui.label("Hardness");
    let slider = Slider::new(&mut new.hardness, 0.0..=1.0).show_value(false);
    ui.add(slider).accessible_name("Brush hardness");
    if ui.selectable_label(now.erase, "Erase").clicked() {
        new.erase = !now.erase;
    }
    if new != now {
        actions.push(Action::Frame(FrameAction::Brush(new)));
    }
    let canvas = state.framing.canvas.as_ref();
    let undo = canvas.is_some_and(|canvas| canvas.can_undo());
    for (words, hint, enabled, action) in [
        ("Undo stroke", "Ctrl+Z", undo, FrameAction::UndoStroke),
        ("Clear", "Nothing is painted", true, FrameAction::Clear),
    ] {
        let button = ui.add_enabled(enabled, egui::Button::new(words));
        if button.on_hover_text(hint).clicked() {
            actions.push(Action::Frame(action));
        }
    }
}

fn mask(ui: &mut Ui, id: PanelId, state: &State, actions: &mut Vec<Action>) {
    if ui.button("Invert").clicked() {
        actions.push(Action::Frame(FrameAction::Invert));
    }
    if ui.button("Load a mask…").clicked() {
        actions.push(Action::Frame(FrameAction::Ask(id, PictureUse::Mask)));
    }
    let mut enlarged = state.framing.enlarged;
    let hint = "Only what lies around the mask is drawn, at the size that the model draws best, and put back";
    let detail = ui.checkbox(&mut enlarged, "In full detail");
    if detail.on_hover_text(hint).changed() {
        actions.push(Action::Frame(FrameAction::Enlarged(enlarged)));
    }
    let painted = state.framing.canvas.as_ref().is_some_and(|c| !c.is_empty());
    let idle = state.work.on(id).is_none();
    if widgets::primary_button(ui, Icon::Picture, "Redraw only here", painted && idle).clicked() {
        actions.push(Action::Frame(FrameAction::DrawMasked(id)));
    }
}

fn scribble(ui: &mut Ui, id: PanelId, state: &State, actions: &mut Vec<Action>) {
    brush(ui, state, actions);
    let drawn = state.framing.canvas.as_ref().is_some_and(|c| !c.is_empty());
    if widgets::primary_button(ui, Icon::Check, "Use this scribble", drawn).clicked() {
        actions.push(Action::Frame(FrameAction::UseScribble(id)));
    }
}

fn who(ui: &mut Ui, id: PanelId, state: &State, actions: &mut Vec<Action>) {
    let Some([left, top, right, bottom]) = state.framing.framed else {
        ui.label("Draw a box around somebody of the cast.");
        return;
    };
    let looks = ReferencePlace::Box(id, [left, top, right - left, bottom - top]);
    for member in &state.story().cast {
        let words = format!("This is {}", casting::called(member));
        if ui.button(words).clicked() {
            actions.push(Action::Cast(CastAction::Is(member.id, looks.clone())));
        }
    }
    if ui.button("This is somebody new…").clicked() {
        actions.push(Action::Cast(CastAction::New(looks)));
    }
}

fn crop(ui: &mut Ui, id: PanelId, state: &State, actions: &mut Vec<Action>) {
    let Some([left, top, right, bottom]) = state.framing.framed else {
        ui.label("Draw a box around what stays.");
        return;
    };
    let (width, height) = (right - left, bottom - top);
    ui.label(format!("{width} x {height} pixels"));
    if widgets::primary_button(ui, Icon::Check, "Crop to the box", true).clicked() {
        let how = Retouch::Crop(left, top, width, height);
        actions.push(Action::Frame(FrameAction::Retouch(id, how)));
    }
}

fn extend(ui: &mut Ui, id: PanelId, state: &State, actions: &mut Vec<Action>) {
    let now = state.framing.sides;
    let mut new = now;
    for (side, name) in [
        (&mut new.left, "Left"),
        (&mut new.top, "Top"),
        (&mut new.right, "Right"),
        (&mut new.bottom, "Bottom"),
    ] {
        ui.label(name);
        let value = DragValue::new(side).range(0..=MOST).speed(4.0);
        let name = format!("Extend {}", name.to_lowercase());
        if ui.add(value).accessible_name(name).changed() {
            *side = *side / STEP * STEP;
        }
    }
    if new != now {
        actions.push(Action::Frame(FrameAction::Extended(new)));
    }
    let any = now != Margins::default() && state.work.on(id).is_none();
    if widgets::primary_button(ui, Icon::Picture, "Draw outside", any).clicked() {
        actions.push(Action::Frame(FrameAction::DrawOutside(id)));
    }
}

/// What the tool in hand shows over the picture at `rect`, and what the pointer does there.
/// `size` is that of the picture in pixels.
pub fn over(
    ui: &mut Ui,
    (rect, response): (Rect, &Response),
    size: (u32, u32),
    state: &State,
    textures: &mut Textures,
    actions: &mut Vec<Action>,
) {
    match state.framing.tool {
        None => {}
        Some(Tool::Mask | Tool::Scribble(_)) => paint(ui, rect, response, state, textures, actions),
        Some(Tool::Who | Tool::Crop) => frame(ui, rect, response, size, state, actions),
        Some(Tool::Extend) => sides(ui, rect, size, state, actions),
    }
}

fn paint(
    ui: &mut Ui,
    rect: Rect,
    response: &Response,
    state: &State,
    textures: &mut Textures,
    actions: &mut Vec<Action>,
) {
    let p = theme::palette(ui);
    let Some(canvas) = &state.framing.canvas else {
        return;
    };
    let scribbles = matches!(state.framing.tool, Some(Tool::Scribble(_)));
    let ink = match scribbles {
        true => egui::Color32::BLACK,
        false => MASK,
    };
    if scribbles {
        let paper = egui::Color32::from_white_alpha(225);
        ui.painter().rect_filled(rect, 0.0, paper);
    }
    let texture = textures.overlay(ui.ctx(), (canvas.revision(), ink), || canvas.overlay(ink));
    let whole = Rect::from_min_max(egui::pos2(0.0, 0.0), egui::pos2(1.0, 1.0));
    let plain = egui::Color32::WHITE;
    let rounded = egui::epaint::RectShape::filled(rect, theme::RADIUS, plain);
    ui.painter().add(rounded.with_texture(texture.id(), whole));
    // A click that is shorter than a frame is a dot.
    let clicked = response.clicked();
    let pressed = response.is_pointer_button_down_on() && ui.input(|i| i.pointer.primary_down());
    if let Some(at) = response
        .interact_pointer_pos()
        .filter(|_| pressed || clicked)
    {
        let share = (at - rect.min) / rect.size();
        let stroke = FrameAction::Stroke([share.x, share.y]);
        actions.push(Action::Frame(stroke));
    }
    if response.drag_stopped() || clicked {
        actions.push(Action::Frame(FrameAction::Lift));
    }
    if let Some(at) = response.hover_pos() {
        let Brush { size, .. } = state.framing.brush;
        let radius = size * rect.width().max(rect.height()) / 2.0;
        let painter = ui.painter_at(rect);
        painter.circle_stroke(at, radius, Stroke::new(2.5, p.card));
        painter.circle_stroke(at, radius, Stroke::new(1.0, p.ink));
        ui.ctx().set_cursor_icon(CursorIcon::Crosshair);
    }
}

fn frame(
    ui: &Ui,
    rect: Rect,
    response: &Response,
    (width, height): (u32, u32),
    state: &State,
    actions: &mut Vec<Action>,
) {
    let p = theme::palette(ui);
    let pixel = |at: Pos2| {
        let share = (at - rect.min) / rect.size();
        let on = |share: f32, most: u32| (share.clamp(0.0, 1.0) * most as f32).round() as u32;
        [on(share.x, width), on(share.y, height)]
    };
    let origin = ui.input(|i| i.pointer.press_origin());
    let now = response.interact_pointer_pos();
    if let (true, Some(from), Some(to)) = (response.dragged(), origin, now) {
        let ([a, b], [c, d]) = (pixel(from), pixel(to));
        let framed = [a.min(c), b.min(d), a.max(c), b.max(d)];
        let some = framed[0] < framed[2] && framed[1] < framed[3];
        let framed = FrameAction::Framed(some.then_some(framed));
        actions.push(Action::Frame(framed));
    } else if response.clicked() {
        actions.push(Action::Frame(FrameAction::Framed(None)));
    }
    if response.hovered() {
        ui.ctx().set_cursor_icon(CursorIcon::Crosshair);
    }
    let Some([left, top, right, bottom]) = state.framing.framed else {
        return;
    };
    let place = |x: u32, y: u32| {
        let share = Vec2::new(x as f32 / width as f32, y as f32 / height as f32);
        rect.min + share * rect.size()
    };
    let framed = Rect::from_min_max(place(left, top), place(right, bottom));
    if state.framing.tool == Some(Tool::Crop) {
        let shade = egui::Color32::from_black_alpha(140);
        let beside = rect.with_min_y(framed.top()).with_max_y(framed.bottom());
        for outside in [
            rect.with_max_y(framed.top()),
            rect.with_min_y(framed.bottom()),
            beside.with_max_x(framed.left()),
            beside.with_min_x(framed.right()),
        ] {
            ui.painter().rect_filled(outside, 0.0, shade);
        }
    }
    let painter = ui.painter();
    for (width, colour) in [(4.0, p.card), (2.0, p.accent)] {
        let line = Stroke::new(width, colour);
        painter.rect_stroke(framed, 2.0, line, StrokeKind::Outside);
    }
}

/// The frame around the picture, whose sides are dragged outwards.
fn sides(
    ui: &mut Ui,
    rect: Rect,
    (width, _): (u32, u32),
    state: &State,
    actions: &mut Vec<Action>,
) {
    let p = theme::palette(ui);
    let points = rect.width() / width.max(1) as f32;
    let now = state.framing.sides;
    let far = |pixels: u32| pixels as f32 * points;
    let framed = Rect::from_min_max(
        rect.min - Vec2::new(far(now.left), far(now.top)),
        rect.max + Vec2::new(far(now.right), far(now.bottom)),
    );
    let corners = [
        framed.left_top(),
        framed.right_top(),
        framed.right_bottom(),
        framed.left_bottom(),
        framed.left_top(),
    ];
    let line = Stroke::new(2.0, p.accent);
    let dashes = egui::Shape::dashed_line(&corners, line, 8.0, 5.0);
    ui.painter().extend(dashes);
    let mut new = now;
    for (name, side, at, from, along) in [
        (
            "left",
            &mut new.left,
            framed.left_center(),
            rect.left_center(),
            Vec2::new(-1.0, 0.0),
        ),
        (
            "top",
            &mut new.top,
            framed.center_top(),
            rect.center_top(),
            Vec2::new(0.0, -1.0),
        ),
        (
            "right",
            &mut new.right,
            framed.right_center(),
            rect.right_center(),
            Vec2::new(1.0, 0.0),
        ),
        (
            "bottom",
            &mut new.bottom,
            framed.center_bottom(),
            rect.center_bottom(),
            Vec2::new(0.0, 1.0),
        ),
    ] {
        let (size, cursor) = match along.y == 0.0 {
            true => (Vec2::new(12.0, 44.0), CursorIcon::ResizeHorizontal),
            false => (Vec2::new(44.0, 12.0), CursorIcon::ResizeVertical),
        };
        let handle = Rect::from_center_size(at, size);
        let grip = ui.scope_id().with(("side", name));
        let response = ui.interact(handle.expand(6.0), grip, Sense::drag());
        let response = response.on_hover_cursor(cursor);
        response.widget_info(|| {
            WidgetInfo::labeled(egui::Role::Slider, true, format!("Frame on the {name}"))
        });
        let hot = response.hovered() || response.dragged();
        let fill = if hot { p.accent } else { p.card };
        ui.painter()
            .rect(handle, 5.0, fill, line, StrokeKind::Inside);
        let pointer = response.interact_pointer_pos();
        if let Some(pointer) = pointer.filter(|_| response.dragged()) {
            let off = (pointer - from).dot(along).max(0.0) / points.max(1e-6);
            *side = ((off / STEP as f32).round() as u32 * STEP).min(MOST);
        }
    }
    if new != now {
        actions.push(Action::Frame(FrameAction::Extended(new)));
    }
}
