//! Flags about the words of a story, for writers that follow instructions.

use anyhow::bail;
use clap::Args;

use crate::pipeline::writer::WriterDescription;
use crate::story::{Settings, TextLength};

/// How the text of panels is written; what is left out comes from the take before.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct WordsArgs {
    /// How long the text of a panel is: line, sentences (one or two) or paragraph
    #[arg(long, value_name = "LENGTH", value_parser = length)]
    pub length: Option<TextLength>,
    /// Tone and audience of the text, such as "gentle, for small children"
    #[arg(long, value_name = "WORDS")]
    pub tone: Option<String>,
    /// What the writer is to keep to, such as "she must not open the door yet"
    #[arg(long, value_name = "WORDS")]
    pub direction: Option<String>,
    /// Words are drawn from the K likeliest; 0 for all
    #[arg(long, value_name = "K")]
    pub top_k: Option<u32>,
    /// Words of less than this share of the likeliest one's probability are not drawn, 0 to 1
    #[arg(long, value_name = "X", value_parser = share)]
    pub min_p: Option<f32>,
    /// How much less likely words become that were used just now, 1 (not at all) to 2
    #[arg(long, value_name = "X", value_parser = penalty)]
    pub repetition_penalty: Option<f32>,
}

impl WordsArgs {
    /// `base` with what was given on the command line.
    pub(super) fn apply_to(&self, base: Settings) -> Settings {
        Settings {
            length: self.length.or(base.length),
            tone: self.tone.clone().unwrap_or(base.tone),
            top_k: self.top_k.or(base.top_k),
            min_p: self.min_p.or(base.min_p),
            repetition_penalty: self.repetition_penalty.or(base.repetition_penalty),
            ..base
        }
    }

    /// Whether anything was given that changes how text is written.
    pub(super) fn changes_settings(&self) -> bool {
        self.length.is_some()
            || self.tone.is_some()
            || self.direction.is_some()
            || self.top_k.is_some()
            || self.min_p.is_some()
            || self.repetition_penalty.is_some()
    }

    /// # Errors
    /// Where the writer can't do what was asked.
    pub(super) fn check(&self, writer: &WriterDescription) -> anyhow::Result<()> {
        let asked = [
            ("--length", self.length.is_some()),
            ("--tone", self.tone.is_some()),
            ("--direction", self.direction.is_some()),
        ];
        for (flag, given) in asked {
            if given && !writer.instructs {
                bail!(
                    "the writer {} follows no instructions, so {flag} would change nothing; leave it out or choose an instruct model with --writer",
                    writer.model
                );
            }
        }
        Ok(())
    }
}

fn length(name: &str) -> Result<TextLength, String> {
    match name {
        "line" => Ok(TextLength::Line),
        "sentences" => Ok(TextLength::Sentences),
        "paragraph" => Ok(TextLength::Paragraph),
        _ => Err("give line, sentences or paragraph".to_string()),
    }
}

fn share(text: &str) -> Result<f32, String> {
    number(text, "a share from 0 to 1", 0.0, 1.0)
}

fn penalty(text: &str) -> Result<f32, String> {
    number(text, "a number from 1 to 2", 1.0, 2.0)
}

fn number(text: &str, what: &str, least: f32, most: f32) -> Result<f32, String> {
    let number = text.parse().ok().filter(|x| (least..=most).contains(x));
    number.ok_or_else(|| format!("give {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_or_can_t_be_done_is_refused() {
        assert_eq!(length("line"), Ok(TextLength::Line));
        assert!(length("long").unwrap_err().contains("paragraph"));
        assert!(share("1.5").is_err() && share("NaN").is_err() && share("0.1").is_ok());
        assert!(penalty("0.9").is_err() && penalty("1.1").is_ok());
        let args = WordsArgs {
            length: Some(TextLength::Line),
            ..WordsArgs::default()
        };
        let own = WriterDescription {
            model: "smollm2".into(),
            ..WriterDescription::default()
        };
        let said = args.check(&own).unwrap_err().to_string();
        assert!(
            said.contains("smollm2") && said.contains("--length"),
            "{said}"
        );
        assert!(WordsArgs::default().check(&own).is_ok());
    }
}
