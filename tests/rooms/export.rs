//! What an export holds and what it looks like.

use std::fs;
use std::path::Path;

use image::RgbaImage;
use resvg::{tiny_skia, usvg};
use vokenboard::export::{
    ExportError, Scale, draw_sheet, write_markdown, write_panel, write_sheet,
};
use vokenboard::story::{
    Document, Edit, Images, PanelId, PictureTake, Record, Settings, Story, read_record,
};

/// A drawn night landscape, different for each `hue`.
fn landscape(hue: u32, width: u32, height: u32) -> RgbaImage {
    let svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 256 256" preserveAspectRatio="none">
        <defs><linearGradient id="sky" x1="0" y1="0" x2="0" y2="1">
        <stop offset="0" stop-color="hsl({hue},45%,38%)"/><stop offset="1" stop-color="hsl({},70%,82%)"/></linearGradient></defs>
        <rect width="256" height="256" fill="url(#sky)"/>
        <circle cx="{}" cy="58" r="22" fill="#fff4cf"/>
        <path d="M0 170 Q64 120 128 165 T256 150 V256 H0Z" fill="hsl({},35%,45%)"/>
        <path d="M0 205 Q90 170 160 205 T256 195 V256 H0Z" fill="hsl({},30%,88%)"/>
        <path d="M60 215 l22 -70 l22 70z M52 222 l30 -48 l30 48z" fill="hsl({},40%,25%)"/>
        <ellipse cx="170" cy="205" rx="30" ry="18" fill="#d2622a"/><circle cx="196" cy="188" r="15" fill="#d2622a"/>
        <path d="M186 178 l3 -15 l8 11z M198 175 l9 -13 l3 15z" fill="#d2622a"/><circle cx="201" cy="186" r="2.4" fill="#222"/>
        </svg>"##,
        hue + 25,
        60 + hue % 140,
        hue + 10,
        hue + 15,
        hue
    );
    let tree = usvg::Tree::from_str(&svg, &usvg::Options::default()).unwrap();
    let mut pixmap = tiny_skia::Pixmap::new(width, height).unwrap();
    resvg::render(
        &tree,
        tiny_skia::Transform::identity(),
        &mut pixmap.as_mut(),
    );
    RgbaImage::from_raw(width, height, pixmap.take()).unwrap()
}

fn record() -> Record {
    Record {
        model: "sprout".into(),
        weights: "0f".into(),
        pipeline: "caption".into(),
        device: "cpu".into(),
        settings: Settings::default(),
        prompt: "A fox in the snow".into(),
        context: vec![PanelId(1)],
        seconds: 0.0,
        created: String::new(),
        ..Record::default()
    }
}

/// A story of the texts given; a panel has a picture where `pictured` says so.
fn board(texts: &[&str], pictured: impl Fn(usize) -> bool) -> (Document, Images) {
    let images = Images::new();
    let mut document = Document::new(Story::default());
    document
        .apply(Edit::SetTitle("The lantern in the snow".into()))
        .unwrap();
    document
        .apply(Edit::SetStyle("A picture book for quiet evenings".into()))
        .unwrap();
    for (index, text) in texts.iter().enumerate() {
        let panel = document.insert_panel(index);
        document
            .apply(Edit::SetText {
                panel,
                text: (*text).into(),
            })
            .unwrap();
        if pictured(index) {
            let id = images.put(landscape(index as u32 * 47 % 360, 256, 256));
            let take = PictureTake::new(id, 256, 256, Some(record()));
            document.apply(Edit::AddPicture { panel, take }).unwrap();
        }
    }
    (document, images)
}

const TALE: [&str; 6] = [
    "A fox finds a glowing lantern in the snowy forest.",
    "“Whose light is this?” the fox wondered, and followed the small tracks that led away between the trees, past the frozen river and up the hill.",
    "That night nobody slept.",
    "The owl had seen everything. It knew the way to the lighthouse, but it would only tell a friend.",
    "",
    "Together they carried the light home.",
];

/// Compares with `tests/snapshots/NAME.png`; set UPDATE_SNAPSHOTS=1 to write it anew, then look.
fn assert_snapshot(name: &str, image: &RgbaImage) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/snapshots/{name}.png"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        image.save(&path).unwrap();
    }
    let expected = image::open(&path)
        .expect("a snapshot is kept for this name")
        .to_rgba8();
    assert_eq!(image.dimensions(), expected.dimensions());
    let off = image
        .as_raw()
        .iter()
        .zip(expected.as_raw())
        .filter(|(a, b)| a.abs_diff(**b) > 8)
        .count();
    let share = off as f64 / image.as_raw().len() as f64;
    assert!(share < 0.001, "{:.3} % of the sheet differs", share * 100.0);
}

#[test]
fn a_board_becomes_a_sheet() {
    let (document, images) = board(&TALE, |index| index != 2);
    let sheet = draw_sheet(document.story(), &images).unwrap();
    assert_snapshot("sheet", &sheet);
}

#[test]
fn sheets_of_any_number_of_panels_can_be_drawn() {
    for count in [0, 1, 2, 4, 7, 30, 200] {
        let texts = vec!["A long way up the hill they met an old badger."; count];
        let (document, images) = board(&texts, |index| index % 9 == 0);
        let sheet = draw_sheet(document.story(), &images).unwrap();
        assert!(
            sheet.width() >= 600 && sheet.width() < 4000,
            "{count}: {}",
            sheet.width()
        );
        assert!(sheet.height() < 12_000, "{count}: {}", sheet.height());
        if let Some(folder) = std::env::var_os("SHEETS") {
            sheet
                .save(Path::new(&folder).join(format!("{count}.png")))
                .unwrap();
        }
    }
}

#[test]
fn texts_in_other_scripts_and_with_markup_do_not_stop_a_sheet() {
    let long = "word ".repeat(300);
    let texts = [
        "狐狸在雪林里发现了一盏灯，它不知道那是谁的。",
        "Лиса нашла фонарь. Η αλεπού βρήκε ένα φανάρι.",
        "الثعلب وجد فانوسا",
        "A 🦊 & a <lantern> \u{1}\u{8} \"quoted\"",
        &long,
        "Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetz",
    ];
    let (document, images) = board(&texts, |index| index % 2 == 0);
    let sheet = draw_sheet(document.story(), &images).unwrap();
    assert!(sheet.height() > 1000);
    if let Some(folder) = std::env::var_os("SHEETS") {
        sheet.save(Path::new(&folder).join("scripts.png")).unwrap();
    }
}

#[test]
fn a_panel_s_png_carries_its_record_at_every_scale() {
    let (document, images) = board(&TALE, |_| true);
    let dir = tempfile::tempdir().unwrap();
    let panel = &document.story().panels[0];
    for (scale, side) in [
        (Scale::Native, 256),
        (Scale::Double, 512),
        (Scale::Quadruple, 1024),
    ] {
        let path = dir.path().join("panel.png");
        write_panel(panel, &images, &path, scale).unwrap();
        assert_eq!(
            image::open(&path).unwrap().to_rgba8().dimensions(),
            (side, side)
        );
        assert_eq!(read_record(&path).unwrap(), Some(record()));
    }
}

#[test]
fn markdown_links_every_picture_it_shows() {
    let (document, images) = board(&TALE, |index| index != 2);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("book");
    write_markdown(document.story(), &images, &out).unwrap();
    write_markdown(document.story(), &images, &out).unwrap();
    let text = fs::read_to_string(out.join("story.md")).unwrap();
    assert!(text.starts_with("# The lantern in the snow\n\n*A picture book"));
    assert!(text.contains("\n\nThat night nobody slept.\n\n"));
    let links: Vec<&str> = text
        .split("](")
        .skip(1)
        .map(|s| s.split(')').next().unwrap())
        .collect();
    assert_eq!(links.len(), 5);
    for link in links {
        assert!(out.join(link).is_file(), "{link}");
    }
}

#[test]
fn a_missing_folder_is_named_and_not_made() {
    let (document, images) = board(&TALE, |_| true);
    let dir = tempfile::tempdir().unwrap();
    let gone = dir.path().join("gone");
    let story = document.story();
    let errors = [
        write_sheet(story, &images, &gone.join("a.png")),
        write_panel(
            &story.panels[0],
            &images,
            &gone.join("b.png"),
            Scale::Native,
        ),
        write_markdown(story, &images, &gone.join("book")),
    ];
    for error in errors.map(|result| result.unwrap_err()) {
        assert!(
            matches!(&error, ExportError::NoFolder(path) if *path == gone),
            "{error}"
        );
    }
    assert!(!gone.exists());
}

#[test]
fn a_panel_without_a_picture_has_nothing_to_export() {
    let (document, images) = board(&TALE, |_| false);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.png");
    let error = write_panel(&document.story().panels[0], &images, &path, Scale::Native);
    assert!(matches!(error, Err(ExportError::NoPicture)));
    assert!(!path.exists());
}
