//! Colours, type and spacing of the studio: warm paper and ink, light or dark after the system.

use egui::epaint::Shadow;
use egui::style::ScrollStyle;
use egui::{Color32, CornerRadius, FontFamily, FontId, Margin, Stroke, TextStyle, Theme, Visuals};

/// The colours that widgets of the studio use beyond egui's own visuals.
#[derive(Clone, Copy, Debug)]
pub(super) struct Palette {
    /// The table on which the cards lie.
    pub table: Color32,
    /// Header, inspector and composer.
    pub paper: Color32,
    /// A panel card.
    pub card: Color32,
    pub ink: Color32,
    pub faint_ink: Color32,
    pub line: Color32,
    /// What to press next, the selection, progress.
    pub accent: Color32,
    pub accent_soft: Color32,
    pub on_accent: Color32,
    /// Where a picture will be.
    pub blank: Color32,
    pub error: Color32,
    pub shadow: Color32,
}

const LIGHT: Palette = Palette {
    table: Color32::from_rgb(0xF1, 0xE9, 0xDA),
    paper: Color32::from_rgb(0xFB, 0xF7, 0xEE),
    card: Color32::from_rgb(0xFF, 0xFD, 0xF9),
    ink: Color32::from_rgb(0x38, 0x2F, 0x28),
    faint_ink: Color32::from_rgb(0x6B, 0x5D, 0x50),
    line: Color32::from_rgb(0xE3, 0xD8, 0xC5),
    accent: Color32::from_rgb(0xA5, 0x46, 0x1F),
    accent_soft: Color32::from_rgb(0xF6, 0xDF, 0xD0),
    on_accent: Color32::from_rgb(0xFF, 0xFA, 0xF4),
    blank: Color32::from_rgb(0xF3, 0xEC, 0xDF),
    error: Color32::from_rgb(0xA8, 0x2E, 0x2E),
    shadow: Color32::from_rgba_premultiplied(0x10, 0x0B, 0x06, 0x28),
};

const DARK: Palette = Palette {
    table: Color32::from_rgb(0x20, 0x1C, 0x19),
    paper: Color32::from_rgb(0x2A, 0x25, 0x21),
    card: Color32::from_rgb(0x34, 0x2E, 0x29),
    ink: Color32::from_rgb(0xF0, 0xE7, 0xDA),
    faint_ink: Color32::from_rgb(0xC4, 0xB6, 0xA6),
    line: Color32::from_rgb(0x4B, 0x42, 0x3A),
    accent: Color32::from_rgb(0xEB, 0xA2, 0x7C),
    accent_soft: Color32::from_rgb(0x56, 0x3B, 0x2D),
    on_accent: Color32::from_rgb(0x24, 0x17, 0x10),
    blank: Color32::from_rgb(0x3D, 0x36, 0x30),
    error: Color32::from_rgb(0xF5, 0xA0, 0x94),
    shadow: Color32::from_rgba_premultiplied(0, 0, 0, 0x60),
};

/// The palette of the theme that `ui` is drawn in.
pub(super) fn palette(ui: &egui::Ui) -> &'static Palette {
    if ui.visuals().dark_mode {
        &DARK
    } else {
        &LIGHT
    }
}

/// Opacity of the primary button under the pointer, and while it is pressed.
pub(super) const HOVERED: f32 = 0.93;
pub(super) const PRESSED: f32 = 0.9;

/// Space between cards, in points.
pub(super) const GAP: f32 = 18.0;
/// Corner radius of cards, in points.
pub(super) const RADIUS: u8 = 14;

/// Large, friendly type: the story's title.
pub(super) fn title_font() -> FontId {
    FontId::new(20.0, FontFamily::Name("title".into()))
}

/// The type of the story's own words.
pub(super) fn story_font() -> FontId {
    FontId::new(16.0, FontFamily::Name("story".into()))
}

/// Installs fonts and both themes; the system's choice of light or dark is followed.
pub(super) fn install(ctx: &egui::Context) {
    ctx.set_fonts(super::fonts::definitions());
    ctx.add_font_provider(std::sync::Arc::new(super::fonts::Fallback::new()));
    for (theme, palette) in [(Theme::Light, &LIGHT), (Theme::Dark, &DARK)] {
        ctx.style_mut_of(theme, |style| {
            style.visuals = visuals(theme, palette);
            style.text_styles = [
                (TextStyle::Small, FontId::proportional(12.5)),
                (TextStyle::Body, FontId::proportional(14.5)),
                (TextStyle::Button, FontId::proportional(14.5)),
                (
                    TextStyle::Heading,
                    FontId::new(22.0, FontFamily::Name("title".into())),
                ),
                (TextStyle::Monospace, FontId::monospace(13.0)),
            ]
            .into();
            style.spacing.item_spacing = egui::vec2(8.0, 8.0);
            style.spacing.button_padding = egui::vec2(12.0, 6.0);
            style.spacing.interact_size = egui::vec2(36.0, 30.0);
            style.spacing.slider_rail_height = 5.0;
            style.spacing.menu_margin = Margin::same(8);
            style.spacing.scroll = scroll_bars();
            style.animation_time = 0.12;
            style.interaction.selectable_labels = false;
        });
    }
    ctx.set_theme(egui::ThemePreference::System);
    ctx.options_mut(|o| {
        o.fallback_theme = Theme::Light;
        // As desktops have it; slow machines draw few frames between two clicks.
        o.input_options.max_double_click_delay = 0.5;
    });
}

/// Bars that float at the edge, wide enough to be seen and taken hold of.
fn scroll_bars() -> ScrollStyle {
    let mut style = ScrollStyle {
        bar_width: 10.0,
        floating_width: 6.0,
        bar_outer_margin: 3.0,
        dormant_handle_opacity: 0.35,
        active_handle_opacity: 0.5,
        interact_handle_opacity: 0.8,
        dormant_background_opacity: 0.0,
        active_background_opacity: 0.0,
        interact_background_opacity: 0.1,
        ..ScrollStyle::floating()
    };
    style.fade.strength = 0.0;
    style
}

fn visuals(theme: Theme, p: &Palette) -> Visuals {
    let mut v = match theme {
        Theme::Light => Visuals::light(),
        Theme::Dark => Visuals::dark(),
    };
    let radius = CornerRadius::same(9);
    v.panel_fill = p.table;
    v.window_fill = p.paper;
    v.window_stroke = Stroke::new(1.0, p.line);
    v.window_corner_radius = CornerRadius::same(RADIUS);
    v.menu_corner_radius = CornerRadius::same(10);
    v.window_shadow = Shadow {
        offset: [0, 8],
        blur: 28,
        spread: 0,
        color: p.shadow,
    };
    v.popup_shadow = Shadow {
        offset: [0, 4],
        blur: 16,
        spread: 0,
        color: p.shadow,
    };
    v.extreme_bg_color = p.card;
    v.text_edit_bg_color = Some(p.card);
    v.faint_bg_color = p.blank;
    v.selection.bg_fill = p.accent_soft;
    v.selection.stroke = Stroke::new(1.5, p.accent);
    v.hyperlink_color = p.accent;
    v.weak_text_color = Some(p.faint_ink);
    v.error_fg_color = p.error;
    v.slider_trailing_fill = true;
    v.text_cursor.stroke = Stroke::new(2.0, p.accent);
    v.interact_cursor = Some(egui::CursorIcon::PointingHand);

    let w = &mut v.widgets;
    for (state, fill, line, ink) in [
        (&mut w.noninteractive, p.paper, p.line, p.ink),
        (&mut w.inactive, p.card, p.line, p.ink),
        (&mut w.hovered, p.accent_soft, p.accent, p.ink),
        (&mut w.active, p.accent_soft, p.accent, p.accent),
        (&mut w.open, p.accent_soft, p.line, p.ink),
    ] {
        state.bg_fill = fill;
        state.weak_bg_fill = fill;
        state.bg_stroke = Stroke::new(1.0, line);
        state.fg_stroke = Stroke::new(1.4, ink);
        state.corner_radius = radius;
        state.expansion = 0.0;
    }
    // Slider rails are filled with `inactive.bg_fill` and must show on paper.
    w.inactive.bg_fill = p.line;
    v
}

/// The soft shadow under a card; a lifted card (hovered, dragged) throws a longer one.
pub(super) fn card_shadow(p: &Palette, lifted: bool) -> Shadow {
    if lifted {
        Shadow {
            offset: [0, 6],
            blur: 22,
            spread: 0,
            color: p.shadow,
        }
    } else {
        Shadow {
            offset: [0, 2],
            blur: 10,
            spread: 0,
            color: p.shadow,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance of WCAG 2.
    fn luminance(colour: Color32) -> f32 {
        let linear = |value: u8| {
            let value = f32::from(value) / 255.0;
            if value <= 0.040_45 {
                value / 12.92
            } else {
                ((value + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * linear(colour.r()) + 0.7152 * linear(colour.g()) + 0.0722 * linear(colour.b())
    }

    fn contrast(a: Color32, b: Color32) -> f32 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn text_stands_out_from_what_it_lies_on() {
        for (name, p) in [("light", &LIGHT), ("dark", &DARK)] {
            for (ground_name, ground) in [
                ("table", p.table),
                ("paper", p.paper),
                ("card", p.card),
                ("blank", p.blank),
                ("accent soft", p.accent_soft),
            ] {
                for (ink_name, ink) in [
                    ("ink", p.ink),
                    ("faint ink", p.faint_ink),
                    ("accent", p.accent),
                    ("error", p.error),
                ] {
                    let found = contrast(ink, ground);
                    assert!(
                        found >= 4.5,
                        "{name}: {ink_name} on {ground_name}: {found:.2}"
                    );
                }
            }
            // The primary button, also while the pointer is over it or presses it.
            for share in [1.0, HOVERED, PRESSED] {
                let ground = p.paper.blend(p.accent.gamma_multiply(share));
                let found = contrast(p.on_accent, ground);
                assert!(found >= 4.5, "{name}: on accent at {share}: {found:.2}");
            }
        }
    }
}
