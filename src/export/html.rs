//! The board as one web page that needs nothing else.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::exporter::{Destination, Export, Exporter};
use super::{ExportError, failed, write_file};
use crate::story::{Images, Panel, Story, encode_png};

/// A page with its pictures inside it, readable on a phone, dark or light as its reader likes.
pub(super) struct Html;

impl Exporter for Html {
    fn id(&self) -> &'static str {
        "html"
    }

    fn label(&self) -> &'static str {
        "Web page…"
    }

    fn place(&self) -> Destination {
        Destination::File {
            ending: "html",
            kind: "Web page",
        }
    }

    fn write(&self, export: &Export, target: &Path) -> Result<PathBuf, ExportError> {
        let page = page(export.story, export.images).map_err(|source| failed(target, source))?;
        write_file(target, page.as_bytes())?;
        Ok(target.to_path_buf())
    }
}

const STYLE: &str = "\
:root{color-scheme:light dark;--paper:#fbf7ef;--card:#f1e9da;--ink:#2d2a32;--muted:#6f675a;--accent:#b0481f}\
@media(prefers-color-scheme:dark){:root{--paper:#201e24;--card:#2c2930;--ink:#eee9df;--muted:#a79f92;--accent:#e98a63}}\
*{box-sizing:border-box}\
body{margin:0;padding:1.5rem 1rem 3rem;background:var(--paper);color:var(--ink);font:1.05rem/1.5 Nunito,system-ui,sans-serif}\
header,ol{max-width:76rem;margin:0 auto}\
h1{margin:0;line-height:1.2;overflow-wrap:anywhere}\
header p{margin:.4rem 0 0;color:var(--muted)}\
ol{list-style:none;padding:0;margin-top:1.5rem;display:grid;gap:1.5rem;grid-template-columns:repeat(auto-fill,minmax(min(100%,20rem),1fr))}\
li{background:var(--card);border-radius:.8rem;overflow:hidden}\
img{display:block;width:100%;height:auto}\
li>div{padding:.8rem 1rem;overflow-wrap:anywhere;white-space:pre-line}\
li>div b{color:var(--accent);margin-right:.5em}\
@media print{li{break-inside:avoid}}";

fn page(story: &Story, images: &Images) -> std::io::Result<String> {
    let title = match story.title.trim() {
        "" => "Untitled story",
        title => title,
    };
    let title = escape(title);
    let mut page = format!(
        "<!DOCTYPE html>\n<html>\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <header><h1>{title}</h1>"
    );
    let style = story.style.trim();
    if !style.is_empty() {
        page += &format!("<p>{}</p>", escape(style));
    }
    page += "</header>\n<main><ol>\n";
    for (number, panel) in (1..).zip(&story.panels) {
        page += "<li>";
        let picture = panel.picture().and_then(|take| images.get(&take.image));
        if let Some(picture) = picture {
            let png = STANDARD.encode(encode_png(&picture, None)?);
            let (width, height) = picture.dimensions();
            // Writing to a String cannot fail.
            let _ = write!(
                page,
                "<img alt=\"{}\" width=\"{width}\" height=\"{height}\" src=\"data:image/png;base64,{png}\">",
                escape(&alternative(number, panel))
            );
        }
        let text = escape(panel.text.trim());
        page += &format!("<div><b>{number}</b>{text}</div></li>\n");
    }
    page += "</ol></main>\n</body>\n</html>\n";
    Ok(page)
}

/// What a picture shows, for those who don't see it: its prompt where the author set one, else
/// its text.
fn alternative(number: usize, panel: &Panel) -> String {
    let prompt = panel.prompt.as_deref().unwrap_or_default().trim();
    let shows = if prompt.is_empty() {
        panel.text.trim()
    } else {
        prompt
    };
    match shows {
        "" => format!("Picture {number}"),
        shows => format!("Picture {number}: {shows}"),
    }
}

/// Text as HTML, where no letter is taken for markup; control characters are left out.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(letter),
            letter if letter.is_control() => {}
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::PanelId;

    #[test]
    fn a_text_cannot_become_markup_and_a_picture_says_what_it_shows() {
        let images = Images::new();
        let picture = image::RgbaImage::from_pixel(3, 2, image::Rgba([9, 9, 9, 255]));
        let take = crate::story::PictureTake::of(picture, None, &images);
        let mut document = crate::story::Document::new(Story {
            title: "<script>\u{0}alert(1)</script>".into(),
            panels: vec![Panel::with_text(PanelId(1), "A \"fox\" & <b>owl</b>")],
            ..Story::default()
        });
        let panel = PanelId(1);
        document
            .apply(crate::story::Edit::AddPicture { panel, take })
            .unwrap();
        let page = page(document.story(), &images).unwrap();
        assert!(!page.contains("<script") && !page.contains('\u{0}'));
        assert!(page.contains("<title>&lt;script&gt;alert(1)&lt;/script&gt;</title>"));
        let alt = "alt=\"Picture 1: A &quot;fox&quot; &amp; &lt;b&gt;owl&lt;/b&gt;\"";
        assert!(page.contains(alt), "{page}");
        assert!(page.contains("width=\"3\" height=\"2\" src=\"data:image/png;base64,"));
        assert!(!page.contains("http"), "it asks for nothing from elsewhere");
    }
}
