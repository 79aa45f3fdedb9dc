//! `vokenboard eval`

mod cast;
mod compositions;
mod drawings;
mod faithfulness;
mod identity;
mod stories;
mod vote;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub struct EvalArgs {
    #[command(subcommand)]
    what: EvalCommand,
}

#[derive(Debug, Subcommand)]
enum EvalCommand {
    /// Whether characters stay themselves from panel to panel, with the cast and without it
    Cast(cast::CastArgs),
    /// Whom a model takes for who is in the pictures of held-out stories, where and when
    Compositions(compositions::CompositionsArgs),
    /// Whether subjects that are drawn from pictures come out as those show them
    Drawings(drawings::DrawingsArgs),
    /// Whether pictures show the subjects, place, time and weather that their captions name
    Faithfulness(faithfulness::FaithfulnessArgs),
    /// How alike the pictures of a board are, in panels that share a member of the cast and in others
    Identity(identity::IdentityArgs),
    /// Held-out stories told by this model and by others, side by side
    Stories(stories::StoriesArgs),
    /// A page on which a person votes on stories, and the table of the votes
    Vote(vote::VoteArgs),
}

/// Judges, and prints a table.
///
/// # Errors
/// A model or judge that can't be read, or a file that can't be written.
pub(super) fn run(args: &EvalArgs) -> anyhow::Result<()> {
    match &args.what {
        EvalCommand::Cast(args) => cast::run(args),
        EvalCommand::Compositions(args) => compositions::run(args),
        EvalCommand::Drawings(args) => drawings::run(args),
        EvalCommand::Faithfulness(args) => faithfulness::run(args),
        EvalCommand::Identity(args) => identity::run(args),
        EvalCommand::Stories(args) => stories::run(args),
        EvalCommand::Vote(args) => vote::run(args),
    }
}
