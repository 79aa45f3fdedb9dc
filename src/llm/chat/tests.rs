//! Templates against transformers' texts, and what of an answer is shown.

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use super::*;
use crate::llm::{CausalLm, LlmError, Sampling, Tokenizer};
use crate::weights::GgufHeader;

#[derive(Deserialize)]
struct Case {
    chats: Vec<Chat>,
}

#[derive(Deserialize)]
struct Chat {
    messages: Vec<Said>,
    enable_thinking: Option<bool>,
    prompt: Option<String>,
    ids: Option<Vec<u32>>,
    ids_reference: Option<Vec<u32>>,
    llamacpp_prompt: Option<String>,
}

#[derive(Deserialize)]
struct Said {
    role: String,
    content: String,
}

fn folders() -> Vec<PathBuf> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tokenizers");
    let entries = std::fs::read_dir(dir).unwrap();
    let folders = entries.map(|entry| entry.unwrap().path());
    folders.filter(|path| path.is_dir()).collect()
}

fn open(dir: &std::path::Path) -> (Tokenizer, Option<ChatTemplate>) {
    let file = std::fs::read(dir.join("tokenizer.gguf")).unwrap();
    let header = GgufHeader::read(&file).unwrap();
    let tokenizer = Tokenizer::from_header(&header).unwrap();
    let template = ChatTemplate::from_header(&header, &tokenizer).unwrap();
    (tokenizer, template)
}

fn day(reasoning: Reasoning) -> TemplateOptions {
    TemplateOptions {
        reasoning,
        // 14 March 2026.
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_773_446_400),
    }
}

#[test]
fn prompts_and_their_ids_are_the_references() {
    let mut compared = 0;
    for dir in folders() {
        let json = std::fs::read(dir.join("case.json")).unwrap();
        let case: Case = serde_json::from_slice(&json).unwrap();
        let (tokenizer, template) = open(&dir);
        assert_eq!(template.is_none(), case.chats.is_empty(), "{dir:?}");
        for chat in case.chats {
            let template = template.as_ref().unwrap();
            let messages: Vec<Message> = chat.messages.into_iter().map(message).collect();
            let reasoning = chat
                .enable_thinking
                .map_or(Reasoning::Default, Reasoning::Asked);
            let options = day(reasoning);
            let prompt = template.render(&messages, &options).unwrap();
            let Some(wanted) = chat.prompt else {
                // The template refuses the system's message, which is folded as llama.cpp does.
                assert_eq!(prompt.replace("<bos>", ""), chat.llamacpp_prompt.unwrap());
                continue;
            };
            assert_eq!(prompt, wanted, "{dir:?}");
            let ids = tokenizer.encode_prompt(&prompt);
            let known = [chat.ids, chat.ids_reference];
            assert!(
                known.contains(&Some(ids.clone())),
                "{dir:?} {prompt:?} {ids:?}"
            );
            compared += 1;
            // Shielding words in which nothing acts changes nothing.
            if messages.iter().all(|message| !message.text().contains('<')) {
                let shielded = messages
                    .iter()
                    .map(|message| message.map_texts(|text| tokenizer.shield(text)));
                let shielded: Vec<Message> = shielded.collect();
                let shielded = template.render(&shielded, &options).unwrap();
                assert_eq!(Tokenizer::unshield(&shielded), prompt);
                assert_eq!(tokenizer.encode_prompt(&shielded), ids, "{dir:?}");
            }
        }
    }
    assert!(compared >= 100, "{compared}");
}

fn message(said: Said) -> Message {
    let role = match said.role.as_str() {
        "system" => Role::System,
        "user" => Role::User,
        _ => Role::Assistant,
    };
    Message::new(role, said.content)
}

#[test]
fn no_thought_is_asked_for() {
    let said = [Message::user("Tell me.")];
    for dir in folders() {
        let (_, Some(template)) = open(&dir) else {
            continue;
        };
        let prompt = template.render(&said, &day(Reasoning::None)).unwrap();
        assert!(!prompt.trim_end().ends_with("<think>"), "{prompt}");
        let name = dir.file_name().unwrap().to_string_lossy();
        if name.starts_with("qwen3") || name.starts_with("smollm3") || name.starts_with("r1") {
            assert!(prompt.trim_end().ends_with("</think>"), "{prompt}");
        }
        if name == "gpt-oss" {
            assert!(prompt.ends_with("<|channel|>final<|message|>"), "{prompt}");
        }
    }
}

fn template(source: &str) -> Result<ChatTemplate, TemplateError> {
    ChatTemplate::new(source, Some("<s>".into()), Some("</s>".into()))
}

fn render(source: &str) -> Result<String, TemplateError> {
    let said = [Message::system("Be kind."), Message::user(" Hi. ")];
    template(source)?.render(&said, &day(Reasoning::Default))
}

#[test]
fn what_templates_expect_is_there() {
    let said = [Message::user(" Hi. "), Message::assistant("Ho.")];
    for (source, wanted) in [
        (
            "{% for m in messages %}\n{{ m.role }}:{{ m.content | trim }}\n{% endfor %}",
            "user:Hi.\nassistant:Ho.\n",
        ),
        (
            "{{ messages[::-1][1].content.strip() ~ bos_token }}",
            "Hi.<s>",
        ),
        (
            "{{ {'a': 'é<b>', 'b': [1, none]} | tojson }}",
            "{\"a\": \"é<b>\", \"b\": [1, null]}",
        ),
        ("{{ strftime_now('%d %b %Y') }}", "14 Mar 2026"),
        (
            "{% set ns = namespace(n=0) %}{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
            "1",
        ),
        (
            "{% macro say(x) %}<{{ x }}>{% endmacro %}{{ say('a' * 2) }}{{ tools is none }}{{ enable_thinking is defined }}",
            "<aa>TrueFalse",
        ),
        (
            "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
            "1",
        ),
        ("{% generation %}a{% endgeneration %}", "a"),
        (
            "{{ 'x,y'.split(',')[-1] }}{{ 'abc'[1:] }}{{ 'Hi'.startswith('H') }}{{ ' a'.lstrip() }}",
            "ybcTruea",
        ),
    ] {
        let template = template(source).unwrap();
        assert_eq!(
            template.render(&said, &day(Reasoning::Default)).unwrap(),
            wanted,
            "{source}"
        );
    }
}

#[test]
fn a_template_that_does_not_hear_the_system_gets_its_words_in_the_first_turn() {
    let source =
        "{% for m in messages %}{% if m.role == 'user' %}[{{ m.content }}]{% endif %}{% endfor %}";
    assert_eq!(render(source).unwrap(), "[Be kind.\n Hi. ]");
    let source = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('No system!') }}{% endif %}[{{ m.content }}]{% endfor %}";
    assert_eq!(render(source).unwrap(), "[Be kind.\n Hi. ]");
}

#[test]
fn templates_that_do_too_much_or_are_none_are_one_sentence() {
    let endless =
        "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}";
    let doubling = "{% set ns = namespace(x='aaaaaaaa') %}{% for a in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}";
    let deep = "{% macro m(x) %}{{ m(x + 1) }}{% endmacro %}{{ m(0) }}";
    let wide = "{{ 'abcdefgh' * 12000000 }}";
    for source in [endless, doubling, deep, wide] {
        let said = render(source).unwrap_err().to_string();
        assert!(
            said.contains("chat template") && !said.contains('\n'),
            "{said}"
        );
    }
    let raised = render("{{ raise_exception('Roles must\n alternate.') }}").unwrap_err();
    assert_eq!(
        raised.to_string(),
        "the model's chat template refuses these messages: Roles must alternate"
    );
    for source in [
        "{% if %}",
        "{{ messages.nope.deeper }}",
        "{{ 1 | nofilter }}",
        "{% for %}",
    ] {
        let said = render(source).unwrap_err().to_string();
        assert!(
            said.contains("cannot be used") && !said.contains('\n'),
            "{said}"
        );
    }
}

fn shown(prompt: &str, answer: &str, stops: &[&str]) -> String {
    let stops: Vec<String> = stops.iter().map(std::string::ToString::to_string).collect();
    let mut all = Vec::new();
    // Whatever the pieces are, the whole is the same, and what was shown begins it.
    for size in [1, 2, 3, 7, 1000] {
        let mut visible = VisibleText::new(prompt, &stops);
        let letters: Vec<char> = answer.chars().collect();
        let mut told = String::new();
        for piece in letters.chunks(size) {
            let piece = visible.push(&piece.iter().collect::<String>());
            match piece.strip_prefix(TAKEN_BACK) {
                Some(whole) => told = whole.to_string(),
                None => told.push_str(&piece),
            }
        }
        let whole = visible.finish();
        assert!(whole.starts_with(&told), "{whole:?} {told:?}");
        all.push(whole);
    }
    assert!(all.iter().all(|text| *text == all[0]), "{all:?}");
    all.swap_remove(0)
}

#[test]
fn thoughts_channels_and_turns_are_not_shown() {
    for (prompt, answer, wanted) in [
        ("", "A fox.", "A fox."),
        ("", "<think>\nHm, a fox.\n</think>\n\nA fox.", "A fox."),
        ("<think>\n", "Hm.\n</think>\n\nA fox.", "A fox."),
        ("", "Hm, a fox?\n</think>\nA fox.", "A fox."),
        ("", "<think>never ends", ""),
        ("", "A fox.<|im_end|>\n<|im_start|>user\nMore", "A fox."),
        ("", "A fox.</s> and more", "A fox."),
        (
            "<|start|>assistant",
            "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>A fox.<|return|>",
            "A fox.",
        ),
        (
            "<|channel|>final<|message|>",
            "A fox.<|end|><|start|>assistant",
            "A fox.",
        ),
        (
            "<|start|>assistant",
            "<|channel|>commentary<|message|>x<|end|>",
            "",
        ),
        ("", "3 < 4 and <b>", "3 < 4 and <b>"),
        ("", "A fox. <thi", "A fox. "),
        ("", "[THINK]x[/THINK]A fox.", "A fox."),
    ] {
        assert_eq!(shown(prompt, answer, &[]), wanted, "{answer}");
    }
    assert_eq!(shown("", "A fox.\n\nPanel 3", &["\n\n"]), "A fox.");
    assert_eq!(shown("", "A fox STO", &["STOP"]), "A fox STO");
}

/// Notes the ids that it is given, and ends every answer at once.
struct Notes {
    vocabulary: usize,
    ids: Arc<Mutex<Vec<u32>>>,
    end: u32,
    pictures: u32,
}

impl CausalLm for Notes {
    fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    fn context_length(&self) -> usize {
        4096
    }

    fn shared(&self, _: &[u32]) -> usize {
        0
    }

    fn take_picture(&mut self, embeddings: Vec<f32>) -> Result<Range<u32>, LlmError> {
        assert_eq!(embeddings.len(), 25 * 64);
        self.pictures += 1;
        let first = 1_000_000 * self.pictures;
        Ok(first..first + 25)
    }

    fn read(
        &mut self,
        ids: &[u32],
        logits: &mut Vec<f32>,
        _: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<()>, LlmError> {
        *self.ids.lock().unwrap() = ids.to_vec();
        *logits = vec![0.0; self.vocabulary];
        logits[self.end as usize] = 1.0;
        Ok(Some(()))
    }
}

/// Sees the same in all pictures, and counts them.
struct Blank(Arc<Mutex<usize>>);

impl ImageEncoder for Blank {
    fn tokens(&self) -> usize {
        25
    }

    fn width(&self) -> usize {
        64
    }

    fn weights(&self) -> &'static str {
        "blank"
    }

    fn see(
        &mut self,
        _: &image::RgbaImage,
        go_on: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<Vec<f32>>, LlmError> {
        *self.0.lock().unwrap() += 1;
        Ok(go_on().is_continue().then(|| vec![0.5; 25 * 64]))
    }
}

#[derive(Default)]
struct Kept(Mutex<HashMap<String, Vec<u8>>>);

impl EmbeddingStore for Kept {
    fn kept(&self, name: &str) -> Option<Vec<u8>> {
        self.0.lock().unwrap().get(name).cloned()
    }

    fn keep(&self, name: &str, bytes: &[u8]) {
        let name = name.to_string();
        self.0.lock().unwrap().insert(name, bytes.to_vec());
    }
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(name)
}

/// A chat with Gemma 3's template.
struct Noted {
    chat: LocalChat,
    /// The ids that it was given last.
    ids: Arc<Mutex<Vec<u32>>>,
    /// Pictures that were looked at.
    looked: Arc<Mutex<usize>>,
}

fn noted() -> Noted {
    let mut chat = LocalChat::open(&fixture("writers/gemma3-linear/model.gguf")).unwrap();
    let ids = Arc::<Mutex<Vec<u32>>>::default();
    let end = chat.tokenizer().token_id("<end_of_turn>").unwrap();
    chat.replace_network(Box::new(Notes {
        vocabulary: chat.tokenizer().len(),
        ids: ids.clone(),
        end,
        pictures: 0,
    }));
    let looked = Arc::<Mutex<usize>>::default();
    let chat = chat
        .with_image_encoder(Box::new(Blank(looked.clone())))
        .unwrap();
    Noted { chat, ids, looked }
}

fn picture(grey: u8) -> Arc<image::RgbaImage> {
    Arc::new(image::RgbaImage::from_pixel(3, 2, image::Rgba([grey; 4])))
}

const OPTIONS: ChatOptions = ChatOptions {
    sampling: Sampling {
        seed: 1,
        temperature: 0.0,
        top_p: 1.0,
        top_k: 0,
        min_p: 0.0,
        repetition_penalty: 1.0,
    },
    max_tokens: 8,
    stop: Vec::new(),
};

#[test]
fn pictures_stand_in_a_prompt_where_transformers_puts_them() {
    #[derive(Deserialize)]
    struct Seen {
        cases: Vec<SeenCase>,
    }
    #[derive(Deserialize)]
    struct SeenCase {
        messages: Vec<serde_json::Value>,
        pictures: Vec<u8>,
        ids: Vec<i64>,
    }
    let json = std::fs::read(fixture("vision/gemma3/case.json")).unwrap();
    let seen: Seen = serde_json::from_slice(&json).unwrap();
    assert_eq!(seen.cases.len(), 2);
    for case in seen.cases {
        let Noted { mut chat, ids, .. } = noted();
        let mut pictures = case.pictures.iter().map(|number| picture(*number));
        let messages: Vec<Message> = case
            .messages
            .iter()
            .map(|said| Message {
                role: match said["role"].as_str().unwrap() {
                    "system" => Role::System,
                    _ => Role::User,
                },
                parts: said["content"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|part| match part["text"].as_str() {
                        Some(text) => MessagePart::Text(text.to_string()),
                        None => MessagePart::Picture(pictures.next().unwrap()),
                    })
                    .collect(),
            })
            .collect();
        chat.chat(&messages, &OPTIONS, &mut |_| ControlFlow::Continue(()))
            .unwrap()
            .unwrap();
        let found = ids.lock().unwrap().clone();
        let plain = |id: &u32| if *id < 1_000_000 { i64::from(*id) } else { -1 };
        assert_eq!(found.iter().map(plain).collect::<Vec<_>>(), case.ids);
        // Each picture's ids are its own, in order.
        let shown: Vec<u32> = found.into_iter().filter(|id| *id >= 1_000_000).collect();
        let firsts = (1..=case.pictures.len() as u32).map(|number| 1_000_000 * number);
        let want: Vec<u32> = firsts.flat_map(|first| first..first + 25).collect();
        assert_eq!(shown, want);
    }
}

#[test]
fn a_picture_is_looked_at_once_and_what_was_seen_is_kept() {
    let shelf = Arc::<Kept>::default();
    let ask = |chat: &mut LocalChat, greys: &[u8]| {
        let mut message = Message::user("What do you see?");
        let pictures = greys
            .iter()
            .map(|grey| MessagePart::Picture(picture(*grey)));
        message.parts.extend(pictures);
        chat.chat(&[message], &OPTIONS, &mut |_| ControlFlow::Continue(()))
            .unwrap()
            .unwrap();
    };
    let Noted {
        mut chat, looked, ..
    } = noted();
    assert_eq!(chat.picture_tokens(), Some(29));
    chat.keep_seen(shelf.clone());
    ask(&mut chat, &[1, 2]);
    ask(&mut chat, &[2, 1, 2]);
    assert_eq!(*looked.lock().unwrap(), 2);
    // More than are held: those that are gone are read from the shelf, not looked at again.
    for grey in 0..100 {
        ask(&mut chat, &[grey]);
    }
    assert_eq!(*looked.lock().unwrap(), 100);
    let Noted {
        mut chat, looked, ..
    } = noted();
    chat.keep_seen(shelf.clone());
    ask(&mut chat, &[2]);
    assert_eq!(*looked.lock().unwrap(), 0);
    // What was damaged there is made again.
    for kept in shelf.0.lock().unwrap().values_mut() {
        kept.truncate(100);
    }
    ask(&mut chat, &[1]);
    assert_eq!(*looked.lock().unwrap(), 1);
    // Cancelled while it looks, nothing is kept of it.
    let message = Message {
        role: Role::User,
        parts: vec![MessagePart::Picture(picture(200))],
    };
    let cancelled = chat.chat(&[message], &OPTIONS, &mut |_| ControlFlow::Break(()));
    assert!(cancelled.unwrap().is_none());
}

#[test]
fn what_sees_belongs_to_a_model_of_its_width() {
    let open =
        |case: &str| LocalChat::open(&fixture(&format!("writers/{case}/model.gguf"))).unwrap();
    for case in ["qwen2", "llama32-tied"] {
        let error = open(case).with_image_encoder(Box::new(Blank(Arc::default())));
        assert!(matches!(error, Err(LlmError::Blind { found: 64 })));
    }
    // Without eyes a picture is left out, not read as something else.
    let mut chat = open("gemma3-linear");
    let text = Message::user("a fox");
    let mut shown = text.clone();
    shown.parts.push(MessagePart::Picture(picture(1)));
    let said = |chat: &mut LocalChat, message| {
        let asked = [message];
        let said = chat.log_probabilities(ChatPrompt::Messages(&asked), "a story");
        said.unwrap().unwrap()
    };
    let (one, other) = (said(&mut chat, text), said(&mut chat, shown));
    assert_eq!(one, other);
    assert!(!one.is_empty() && one.iter().all(|p| *p < 0.0));
}
