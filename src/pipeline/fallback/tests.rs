//! A GPU that fails at every place of a request.

use super::*;
use crate::nn::gpu::adapters;
use crate::pipeline::load::ResolvedModels;
use crate::pipeline::{CAPTION, RECIPES};
use crate::story::{PanelId, Settings};
use image::RgbaImage;

/// Tells a fixed text and a picture, and where it has a GPU fails at one place.
struct Fake {
    description: Description,
    gpu: Option<Gpu>,
    fails: Place,
}

#[derive(Clone, Copy, PartialEq)]
enum Place {
    InText,
    InPicture,
    Elsewhere,
}

impl Pipeline for Fake {
    fn describe(&self) -> &Description {
        &self.description
    }

    fn generate(
        &mut self,
        request: &Request,
        sink: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Option<Output>, PipelineError> {
        let mut output = Output::default();
        let fail = |place: Place| match &self.gpu {
            Some(gpu) if place == self.fails => Err(PipelineError::Tensor(
                gpu.refuse(3 << 30).to_string().into(),
            )),
            _ => Ok(()),
        };
        if self.fails == Place::Elsewhere {
            return Err(PipelineError::Request("it can't draw that".to_owned()));
        }
        if request.make.text() {
            let _ = sink(Progress::TextPiece("A do".to_owned()));
            fail(Place::InText)?;
            let _ = sink(Progress::TextPiece("or.".to_owned()));
            let record = Record {
                device: self.description.device.clone(),
                ..Record::default()
            };
            let _ = sink(Progress::TextDone(
                "A door.".to_owned(),
                record.clone().into(),
            ));
            output.text = Some(("A door.".to_owned(), record));
        }
        if request.make.picture() {
            fail(Place::InPicture)?;
            let record = Record {
                device: self.description.device.clone(),
                text: request.text.clone(),
                ..Record::default()
            };
            output.picture = Some((RgbaImage::new(1, 1), record));
        }
        Ok(Some(output))
    }
}

fn fake(gpu: Option<&Gpu>, fails: Place) -> Box<dyn Pipeline> {
    let device = if gpu.is_some() { "Radeon" } else { "CPU" };
    Box::new(Fake {
        description: Description {
            device: device.to_owned(),
            ..Description::default()
        },
        gpu: gpu.cloned(),
        fails,
    })
}

fn on_cpu() -> Anew {
    Box::new(|| Box::new(|_| Ok(fake(None, Place::InText))))
}

/// What a request gives, the pieces of text, the texts and the notes that were told.
fn told(
    pipeline: &mut FallbackPipeline,
) -> (
    Result<Option<Output>, PipelineError>,
    String,
    usize,
    Vec<String>,
) {
    let request = Request {
        make: Make::Both,
        ..Request::default()
    };
    let (mut text, mut texts, mut notes) = (String::new(), 0, Vec::new());
    let output = pipeline.generate(&request, &mut |progress| {
        match progress {
            Progress::TextPiece(piece) => text.push_str(&piece),
            Progress::TextDone(..) => texts += 1,
            Progress::Note(note) => notes.push(note),
            _ => {}
        }
        ControlFlow::Continue(())
    });
    (output, text, texts, notes)
}

#[test]
fn what_a_gpu_began_the_processor_ends_and_nothing_is_told_twice() {
    for (fails, writes, knows) in [
        (Place::InText, "CPU", None),
        (Place::InPicture, "Radeon", Some("A door.")),
    ] {
        let gpu = Gpu::counting(1 << 30, false);
        let loaded = Ok(fake(Some(&gpu), fails));
        let mut pipeline = FallbackPipeline::new(loaded, &gpu, on_cpu(), &mut |_| {}).unwrap();
        assert_eq!(pipeline.describe().device, "Radeon");
        let (output, text, texts, notes) = told(&mut pipeline);
        let output = output.unwrap().unwrap();
        assert_eq!((text.as_str(), texts), ("A door.", 1));
        assert_eq!(output.text.unwrap().1.device, writes);
        let (_, record) = output.picture.unwrap();
        assert_eq!(
            (record.device.as_str(), record.text.as_deref()),
            ("CPU", knows)
        );
        assert_eq!(notes.len(), 1);
        let said = &notes[0];
        assert!(
            said.contains("not enough free memory") && said.contains("the processor goes on"),
            "{said}"
        );
        assert_eq!(pipeline.describe().device, "CPU");
        let (again, _, _, notes) = told(&mut pipeline);
        assert!(again.is_ok() && notes.is_empty());
    }
}

#[test]
fn a_gpu_too_small_for_the_model_is_told_with_the_first_panel() {
    let gpu = Gpu::counting(1 << 30, false);
    let refused = PipelineError::Tensor(gpu.refuse(9 << 30).to_string().into());
    let mut pipeline = FallbackPipeline::new(Err(refused), &gpu, on_cpu(), &mut |_| {}).unwrap();
    assert_eq!(pipeline.describe().device, "CPU");
    let (output, _, _, notes) = told(&mut pipeline);
    assert!(output.is_ok() && notes.len() == 1, "{notes:?}");
}

#[test]
fn errors_of_other_things_stay_errors() {
    let gpu = Gpu::counting(1 << 30, false);
    // One that was met and overcome before.
    gpu.refuse(1 << 20);
    let loaded = Ok(fake(Some(&gpu), Place::Elsewhere));
    let mut pipeline = FallbackPipeline::new(loaded, &gpu, on_cpu(), &mut |_| {}).unwrap();
    let (output, _, _, notes) = told(&mut pipeline);
    assert!(output.is_err() && notes.is_empty());
    assert_eq!(pipeline.describe().device, "Radeon");
    let broken = Err(PipelineError::Request("no such model".to_owned()));
    assert!(
        FallbackPipeline::new(broken, &Gpu::counting(1, false), on_cpu(), &mut |_| {}).is_err()
    );
}

/// The model that comes with the program, on a GPU that goes away between two steps.
#[test]
fn a_gpu_lost_in_the_middle_of_a_picture_leaves_it_to_the_processor() {
    if adapters().is_empty() {
        eprintln!(
            "no adapter of Vulkan, Metal or DirectX 12 is on this machine: nothing is tested"
        );
        return;
    }
    let options = |device| LoadOptions {
        recipe: Some(CAPTION),
        device,
        ..LoadOptions::default()
    };
    let request = Request {
        context: vec![ContextPanel {
            id: PanelId(1),
            text: "A fox finds a lantern.".to_owned(),
            picture: None,
        }],
        make: Make::Picture,
        text: Some("The fox sits in the snow.".to_owned()),
        settings: Settings {
            seed: 5,
            steps: 2,
            ..Settings::default()
        },
        ..Request::default()
    };
    let cpu = DeviceChoice::Only(DeviceKind::Cpu);
    let mut plain = loader(options(cpu))(&mut |_| {}).unwrap();
    let wanted = plain.generate(&request, &mut |_| ControlFlow::Continue(()));
    let (wanted, _) = wanted.unwrap().unwrap().picture.unwrap();

    let options = options(DeviceChoice::GpuOrCpu(Some(0)));
    let chosen = ResolvedModels::new(&options).unwrap();
    let gpu = chosen.place.gpu.clone().unwrap();
    let recipe = RECIPES.iter().find(|recipe| recipe.id() == CAPTION);
    let loaded = recipe.unwrap().load(&chosen, &mut |_| {});
    let mut pipeline = with_fallback(loaded, &gpu, &options, &mut |_| {}).unwrap();
    assert!(pipeline.describe().device.contains(&gpu.info().name));
    let (mut notes, mut lost) = (Vec::new(), false);
    let output = pipeline.generate(&request, &mut |progress| {
        match progress {
            Progress::Step { step: 1, .. } if !lost => {
                gpu.lose();
                lost = true;
            }
            Progress::Note(note) => notes.push(note),
            _ => {}
        }
        ControlFlow::Continue(())
    });
    let (picture, record) = output.unwrap().unwrap().picture.unwrap();
    assert_eq!(picture, wanted, "the processor draws the picture anew");
    assert!(record.device.starts_with("CPU"), "{}", record.device);
    assert!(
        notes.len() == 1 && notes[0].contains("was lost"),
        "{notes:?}"
    );
    assert!(pipeline.describe().device.starts_with("CPU"));
}
