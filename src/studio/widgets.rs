//! Small widgets that the rooms of the window share, each with an accessible name.

use egui::{
    Align2, Button, Color32, CornerRadius, FontId, Response, RichText, Sense, Slider, Stroke, Ui,
    Vec2, WidgetInfo,
};

use egui::text::{LayoutJob, TextFormat};

use super::icons::{self, Icon};
use super::theme::{HOVERED, PRESSED, palette};
use crate::words::UnknownWord;

/// A frameless icon button, named `name` for the pointer's tooltip and for assistive technology.
pub(super) fn icon_button(ui: &mut Ui, icon: Icon, name: &str, enabled: bool) -> Response {
    let image = icons::image(ui.ctx(), icon, 18.0);
    ui.scope(|ui| {
        ui.spacing_mut().button_padding = egui::vec2(6.0, 6.0);
        let quiet = &mut ui.visuals_mut().widgets.inactive;
        quiet.weak_bg_fill = Color32::TRANSPARENT;
        quiet.bg_stroke = Stroke::NONE;
        ui.add_enabled(
            enabled,
            Button::image(image).image_tint_follows_text_color(true),
        )
    })
    .inner
    .on_hover_text(name)
    .accessible_name(name)
}

/// A button with an icon before its words.
pub(super) fn button(ui: &mut Ui, icon: Icon, words: &str, enabled: bool) -> Response {
    let image = icons::image(ui.ctx(), icon, 17.0);
    ui.add_enabled(
        enabled,
        Button::image_and_text(image, words).image_tint_follows_text_color(true),
    )
    .accessible_name(words)
}

/// The button to press next: filled with the accent.
pub(super) fn primary_button(ui: &mut Ui, icon: Icon, words: &str, enabled: bool) -> Response {
    let p = palette(ui);
    let image = icons::image(ui.ctx(), icon, 17.0);
    ui.scope(|ui| {
        let widgets = &mut ui.visuals_mut().widgets;
        for (state, fill) in [
            (&mut widgets.inactive, p.accent),
            (&mut widgets.hovered, p.accent.gamma_multiply(HOVERED)),
            (&mut widgets.active, p.accent.gamma_multiply(PRESSED)),
        ] {
            state.weak_bg_fill = fill;
            state.bg_stroke = Stroke::NONE;
            state.fg_stroke.color = p.on_accent;
        }
        ui.add_enabled(
            enabled,
            Button::image_and_text(image, words).image_tint_follows_text_color(true),
        )
    })
    .inner
    .accessible_name(words)
}

/// A small round-cornered word that can be pressed.
pub(super) fn chip(ui: &mut Ui, word: &str) -> Response {
    // Wrapped rows break only between widgets, so the style is not set in a scope.
    ui.add(
        Button::new(RichText::new(word).size(13.5))
            .corner_radius(CornerRadius::same(13))
            .fill(palette(ui).card)
            .wrap_mode(egui::TextWrapMode::Extend),
    )
    .accessible_name(word)
}

/// An icon on a round plate that floats over a picture.
pub(super) fn floating_button(
    ui: &mut Ui,
    rect: egui::Rect,
    icon: Icon,
    name: &str,
    opacity: f32,
) -> Response {
    let p = palette(ui);
    let response = ui
        .interact(rect, ui.scope_id().with(name), Sense::click())
        .on_hover_text(name)
        .on_hover_cursor(egui::CursorIcon::PointingHand);
    response.widget_info(|| WidgetInfo::labeled(egui::Role::Button, true, name));
    let opacity = if response.has_focus() || response.hovered() {
        1.0
    } else {
        opacity
    };
    if opacity > 0.0 {
        let (plate, ink) = if response.hovered() {
            (p.accent, p.on_accent)
        } else {
            (p.card, p.ink)
        };
        ui.painter().circle_filled(
            rect.center(),
            rect.width() / 2.0,
            plate.gamma_multiply(0.94 * opacity),
        );
        if response.has_focus() {
            ui.painter().circle_stroke(
                rect.center(),
                rect.width() / 2.0,
                Stroke::new(2.0, p.accent),
            );
        }
        icons::image(ui.ctx(), icon, 16.0)
            .tint(ink.gamma_multiply(opacity))
            .paint_at(
                ui,
                egui::Rect::from_center_size(rect.center(), Vec2::splat(16.0)),
            );
    }
    response
}

/// A word or two on a plate, over a picture.
pub(super) fn badge(
    ui: &Ui,
    anchor: egui::Pos2,
    align: Align2,
    words: &str,
    fill: Color32,
    ink: Color32,
) -> egui::Rect {
    let galley = ui
        .painter()
        .layout_no_wrap(words.to_owned(), FontId::proportional(13.0), ink);
    let size = galley.size() + egui::vec2(14.0, 6.0);
    let size = egui::vec2(size.x.max(size.y), size.y);
    let rect = align.anchor_size(anchor, size);
    ui.painter()
        .rect_filled(rect, CornerRadius::same((size.y / 2.0) as u8), fill);
    ui.painter()
        .galley(rect.center() - galley.size() / 2.0, galley, ink);
    rect
}

/// A named slider on a line of its own, the value written at the right.
pub(super) fn named_slider(ui: &mut Ui, name: &str, value: String, slider: Slider<'_>) -> Response {
    let p = palette(ui);
    ui.scope(|ui| {
        ui.spacing_mut().item_spacing.y = 0.0;
        ui.spacing_mut().interact_size.y = 20.0;
        ui.horizontal(|ui| {
            ui.label(name);
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                ui.label(RichText::new(value).color(p.faint_ink));
            });
        });
        ui.spacing_mut().slider_width = ui.available_width();
        let visuals = ui.visuals_mut();
        visuals.selection.bg_fill = p.accent;
        for state in [
            &mut visuals.widgets.inactive,
            &mut visuals.widgets.hovered,
            &mut visuals.widgets.active,
        ] {
            state.fg_stroke = Stroke::new(2.0, p.accent);
        }
        let response = ui
            .add(
                slider
                    .show_value(false)
                    .handle_shape(egui::style::HandleShape::Circle),
            )
            .accessible_name(name);
        focus_ring(ui, &response, response.rect.expand2(egui::vec2(4.0, 0.0)));
        response
    })
    .inner
}

/// A thin progress line; `done` in 0..=1.
pub(super) fn progress_line(ui: &Ui, rect: egui::Rect, done: f32) {
    let p = palette(ui);
    let radius = CornerRadius::same((rect.height() / 2.0) as u8);
    ui.painter().rect_filled(rect, radius, p.line);
    let mut filled = rect;
    filled.set_width(rect.width() * done.clamp(0.0, 1.0));
    ui.painter().rect_filled(filled, radius, p.accent);
}

/// A quiet caption over a group of controls.
pub(super) fn caption(ui: &mut Ui, words: &str) {
    ui.label(RichText::new(words).size(12.5).color(palette(ui).faint_ink));
}

/// Where a picture of `size` lies in `rect`: whole, centred and as large as may be.
pub(super) fn fitted(size: Vec2, rect: egui::Rect) -> egui::Rect {
    let size = size.max(Vec2::splat(1.0));
    let scale = (rect.width() / size.x).min(rect.height() / size.y);
    egui::Rect::from_center_size(rect.center(), size * scale)
}

/// A line of a menu with its shortcut; it closes the menu when it is clicked.
pub(super) fn menu_item(ui: &mut Ui, words: &str, shortcut: &str, enabled: bool) -> bool {
    let button = Button::new(words).shortcut_text(shortcut);
    let clicked = ui
        .add_enabled(enabled, button)
        .accessible_name(words)
        .clicked();
    if clicked {
        ui.close();
    }
    clicked
}

/// Words of a menu stand off the edge of their highlight.
pub(super) fn roomy(ui: &mut Ui) {
    ui.spacing_mut().button_padding = egui::vec2(8.0, 4.0);
}

/// A line with `left` at its left and `right` at its right, made in that order, so that the
/// focus goes through them as they are read. `left` is told what room there is for it: what
/// `right` left in the frame before.
pub(super) fn line(
    ui: &mut Ui,
    name: &str,
    left: impl FnOnce(&mut Ui, f32),
    right: impl FnOnce(&mut Ui),
) {
    let known = ui.scope_id().with(("width of the right", name));
    let before: Option<f32> = ui.ctx().data(|d| d.get_temp(known));
    let used = before.unwrap_or(0.0);
    ui.horizontal(|ui| {
        let end = ui.max_rect().right();
        let gap = ui.spacing().item_spacing.x;
        left(ui, end - ui.cursor().left() - used - gap);
        ui.add_space((end - ui.cursor().left() - used).max(0.0));
        let width = ui.scope(|ui| ui.horizontal(right)).response.rect.width();
        ui.ctx().data_mut(|d| d.insert_temp(known, width));
        if before.is_none_or(|before| (before - width).abs() > 0.5) {
            ui.ctx()
                .request_discard("the right of a line has another width");
        }
    });
}

/// A line around what has the keyboard.
pub(super) fn focus_ring(ui: &Ui, response: &Response, around: egui::Rect) {
    if response.has_focus() {
        let edge = Stroke::new(2.0, palette(ui).accent);
        ui.painter()
            .rect_stroke(around, 9.0, edge, egui::StrokeKind::Outside);
    }
}

/// A text in which the words found are underlined, to be laid out at most `width` points wide.
pub(super) fn marked(
    ui: &Ui,
    text: &str,
    found: &[UnknownWord],
    font: &FontId,
    width: f32,
) -> LayoutJob {
    let p = palette(ui);
    let plain = TextFormat::simple(font.clone(), p.ink);
    let underlined = TextFormat {
        underline: Stroke::new(1.5, p.error),
        ..plain.clone()
    };
    let mut job = LayoutJob::default();
    job.wrap.max_width = width;
    let mut at = 0;
    for word in found {
        job.append(&text[at..word.start], 0.0, plain.clone());
        job.append(&text[word.start..word.end], 0.0, underlined.clone());
        at = word.end;
    }
    job.append(&text[at..], 0.0, plain);
    job
}
