//! `export`: every format, and what is there already.

use super::*;

#[test]
fn export_writes_a_sheet_and_markdown_where_it_is_told() {
    let (temp, out) = told(2);
    let sheet = temp.path().join("sheet.png");
    let folder = temp.path().join("markdown");
    vokenboard()
        .arg("export")
        .arg(&out)
        .arg("--png")
        .arg(&sheet)
        .arg("--markdown")
        .arg(&folder)
        .assert()
        .success();
    assert!(image::open(&sheet).unwrap().width() > 300);
    let written = files(&folder);
    assert!(
        written
            .keys()
            .any(|path| path.extension().is_some_and(|e| e == "md"))
    );
    let pictures = written
        .keys()
        .filter(|path| path.starts_with("images"))
        .count();
    assert_eq!(pictures, images(&out));
}

#[test]
fn every_format_is_written_where_it_is_told_and_replaces_nothing_unless_forced() {
    let (temp, out) = told(2);
    let export = |format: &str, to: &Path, more: &[&str]| {
        let mut command = vokenboard();
        command
            .arg("export")
            .arg(&out)
            .args(["--format", format, "--out"]);
        command.arg(to).args(more);
        command
    };
    let at = |name: &str| temp.path().join(name);
    let formats: [(&str, &str, &str, &[&str]); 6] = [
        ("sheet", "a.png", "a.png", &[]),
        (
            "pdf",
            "a",
            "a.pdf",
            &[
                "--page",
                "letter",
                "--orientation",
                "portrait",
                "--per-page",
                "1",
            ],
        ),
        ("html", "a.html", "a.html", &[]),
        ("markdown", "md", "md/story.md", &[]),
        ("pictures", "pictures", "pictures/02.png", &[]),
        ("panel", "one.png", "one.png", &["--panel", "2"]),
    ];
    for (format, name, written, more) in formats {
        let to = at(name);
        export(format, &to, more)
            .assert()
            .success()
            .stdout(contains("wrote"));
        let before = fs::read(at(written)).unwrap();
        assert!(!before.is_empty(), "{format}");
        // Markdown knows what it wrote itself; all else stays.
        if format != "markdown" {
            fs::write(at(written), "mine").unwrap();
            refused(export(format, &to, more), "--force");
            assert_eq!(fs::read(at(written)).unwrap(), b"mine");
            let forced = [more, &["--force"]].concat();
            export(format, &to, &forced).assert().success();
            assert_eq!(fs::read(at(written)).unwrap(), before, "{format}");
        }
    }
    let record = vokenboard::story::read_record(&at("pictures/02.png")).unwrap();
    assert_eq!(record.unwrap().model, "tiny");
    assert!(fs::read(at("a.pdf")).unwrap().starts_with(b"%PDF-"));
    refused(export("panel", &at("x.png"), &[]), "--panel");
    refused(
        export("panel", &at("x.png"), &["--panel", "9"]),
        "no panel 9",
    );
    refused(
        export("html", &at("x.html"), &["--page", "a4"]),
        "no option --page",
    );
    refused(
        export("sheet", &out.join("images/x.png"), &["--force"]),
        "part of the story",
    );
    let mut wrong = export("napkin", &at("x"), &[]);
    wrong.assert().code(2).stderr(contains("pdf"));
}

#[test]
fn export_names_what_is_wrong() {
    let temp = tempfile::tempdir().unwrap();
    let mut command = vokenboard();
    command.arg("export").arg(temp.path().join("none"));
    refused(command, "none");

    let (_temp, out) = told(1);
    let mut command = vokenboard();
    command
        .arg("export")
        .arg(&out)
        .arg("--png")
        .arg(temp.path().join("no/such/folder/sheet.png"));
    refused(command, "no/such/folder");
}
