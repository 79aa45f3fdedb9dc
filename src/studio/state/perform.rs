//! One match from what the author did to what the studio does.

use std::time::Instant;

use super::{Leave, ModelChoice, State};
use crate::engine::Make;
use crate::export;
use crate::story::{Edit, Settings};
use crate::studio::actions::Action;
use crate::studio::dialogs::{DialogRequest, ImportRole};
use crate::studio::framing::FrameAction;
use crate::studio::work::{JobTarget, QueuedJob};

impl State {
    /// Carries out what the author did.
    pub fn perform(&mut self, action: Action, now: Instant) {
        // Anything but more typing and looking around ends the typing.
        let typing = matches!(
            action,
            Action::Typed(..) | Action::Enlarge(_) | Action::Insert(_)
        );
        if !typing {
            self.commit(now);
        }
        match action {
            Action::Enter => self.tell(Make::Both, now),
            Action::Tell(make) => self.tell(make, now),
            Action::TellFive => self.tell_five(now),
            Action::Open(opening) => {
                self.view.composer = opening.to_owned();
                self.tell(Make::Both, now);
            }
            Action::Insert(word) => {
                let added = word.after(&self.view.composer, |word| self.knows(word));
                let kept = self.view.composer.trim_end().len();
                self.view.composer.truncate(kept);
                self.view.composer.push_str(&added);
                self.view.focus_composer = true;
            }
            Action::Select(id) => self.select(id),
            Action::Toggle(id) => self.toggle(id),
            Action::Extend(id) => self.extend(id),
            Action::SelectAll => self.select_all(),
            Action::Step(step) => self.step(step),
            Action::Enlarge(id) => self.enlarge(id),
            Action::Compare(take) => {
                // A tool is for one picture alone.
                if let Some(id) = self.view.large.filter(|_| take.is_some()) {
                    self.frame(FrameAction::Take(id, None), now);
                }
                self.view.compare = take;
            }
            Action::Divide(share) => self.view.divider = share.clamp(0.0, 1.0),
            Action::AddPanel => self.write_new(None, now),
            Action::InsertAfter(id) => self.write_new(Some(id), now),
            Action::TellAfter(id) => {
                self.select(Some(id));
                self.go_on(Make::Both, true);
            }
            Action::Duplicate(id) => self.duplicate(id, now),
            Action::Delete(id) => self.delete(&[id], now),
            Action::DeleteChosen => self.delete(&self.chosen(), now),
            Action::RedrawChosen => {
                for id in self.chosen() {
                    self.draw_picture(id);
                }
            }
            Action::Move(panel, before) => {
                if let Some(from) = self.index_of(panel) {
                    let to = if before > from { before - 1 } else { before };
                    self.edit(Edit::MovePanel { panel, to }, now);
                }
            }
            Action::Typed(panel, text) => {
                self.edit(Edit::SetText { panel, text }, now);
                self.board.typed = Some(now);
            }
            Action::Committed => {}
            Action::PictureTake(id, index) => {
                self.forget_glimpse();
                self.edit(
                    Edit::ChoosePicture {
                        panel: id,
                        take: index,
                    },
                    now,
                );
                self.load_settings();
            }
            Action::TextTake(id, index) => self.edit(
                Edit::ChooseText {
                    panel: id,
                    take: index,
                },
                now,
            ),
            Action::Star(panel, take, starred) => {
                self.edit(
                    Edit::StarPicture {
                        panel,
                        take,
                        starred,
                    },
                    now,
                );
            }
            Action::DeletePicture(panel, take) => {
                self.forget_glimpse();
                self.edit(Edit::DeletePicture { panel, take }, now);
                self.load_settings();
            }
            Action::DeleteText(panel, take) => {
                self.edit(Edit::DeleteText { panel, take }, now);
                self.load_settings();
            }
            Action::DrawPicture(id) => self.draw_picture(id),
            Action::RewriteText(id) => {
                let settings = Settings {
                    seed: self.seed_for(id),
                    ..self.settings_for(id)
                };
                self.order(QueuedJob {
                    target: JobTarget::Panel(id),
                    make: Make::Text,
                    settings,
                    live: false,
                    rewrite: None,
                });
            }
            Action::Rewrite(id, rewrite) => self.rewrite(id, rewrite),
            Action::WritePrompt(id) => self.write_prompt(id),
            Action::Plan(panels) => self.plan(panels),
            Action::Apply(edit) => self.edit(*edit, now),
            Action::Cast(action) => self.cast(action, now),
            Action::Frame(action) => self.frame(action, now),
            Action::Set(setting) => self.set(setting, now),
            Action::Undo => {
                self.forget_glimpse();
                self.board.document.undo();
                self.after_history();
            }
            Action::Redo => {
                self.forget_glimpse();
                self.board.document.redo();
                self.after_history();
            }
            Action::Cancel => self.cancel(),
            Action::New => self.leave_for(Leave::New, now),
            Action::Close => self.leave_for(Leave::Close, now),
            Action::LeaveNow => self.leave_now(now),
            Action::Stay => self.stories.leaving = None,
            Action::OpenStory(dir) => self.open(dir),
            Action::KeepBoth => self.keep_both(),
            Action::ForgetRescued(index) => self.forget_rescued(index, now),
            Action::Show(sheet) => self.view.sheet = sheet,
            Action::Prefer(preferences) => self.prefer(*preferences, now),
            Action::AskFolder => self.ask(DialogRequest::Folder),
            Action::AskModel => self.ask(DialogRequest::Model),
            Action::AskModelFolder => self.ask(DialogRequest::ModelFolder),
            Action::AskModels => self.ask(DialogRequest::Models),
            Action::AskWorkflow => self.ask(DialogRequest::Workflow),
            Action::AskWeights(what) => self.ask(DialogRequest::Weights(what)),
            Action::AddEngine => self.add_engine(),
            Action::Chosen(answer) => {
                self.view.chooser = None;
                self.answered(answer, now);
            }
            Action::ChooseNothing => self.view.chooser = None,
            Action::Save => self.save(true),
            Action::Drop(paths, into) => self.dropped(paths, into),
            Action::DropLooks(paths, id) => self.bring(paths, ImportRole::Looks(id)),
            Action::Paste(picture, into) => self.paste(&picture, into, now),
            Action::AskOpen => self.ask(DialogRequest::Open),
            Action::AskBring(into) => self.ask(DialogRequest::Bring(ImportRole::Panels(into))),
            Action::AskSaveAs => self.ask(DialogRequest::SaveAs(self.file_name())),
            Action::AskExport(exporter) => {
                self.ask_export(exporter, self.selected_with_picture());
            }
            Action::AskPicture(id) => self.ask_export("panel", Some(id)),
            Action::ExportOption(exporter, choice, value) => {
                if let Some(known) = export::exporter(exporter) {
                    let options = self.exports.entry(exporter).or_default();
                    // The menu offers no other values than the exporter's own.
                    let _ = options.set(known, choice, value);
                }
            }
            Action::Device(device) => self.choose(ModelChoice {
                device,
                ..self.models.choice.clone()
            }),
            Action::Model(model, recipe) => self.choose(ModelChoice {
                model,
                recipe,
                ..self.models.choice.clone()
            }),
            Action::Writer(writer) => self.choose(ModelChoice {
                writer,
                ..self.models.choice.clone()
            }),
        }
    }
}
