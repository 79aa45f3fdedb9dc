//! Opens the window.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::app::App;
use super::dialogs::SystemDialogs;
use super::models::ModelLibrary;
use super::preferences::{self, Preferences};
use super::state::{LoaderFor, ModelChoice, State, Storyteller, StudioParts};
use crate::cause::Cause;
use crate::pipeline::new_seed;
use crate::story::rescue_folders;
use crate::weights::Manifest;

/// At most so many frames a second for events of the engine.
const PACE: Duration = Duration::from_millis(66);

/// What the window opens with.
pub struct StudioOptions {
    /// A project folder to open; an empty board without one.
    pub project: Option<PathBuf>,
    /// Makes the loader of what is chosen; called again when the author chooses anew.
    pub loader_for: LoaderFor,
    /// The model that is loaded at the start.
    pub choice: ModelChoice,
    /// The installed models that tell stories.
    pub models: Vec<Storyteller>,
    /// The installed models that write for others.
    pub writers: Vec<Manifest>,
    /// The models folder, to which models can be added.
    pub library: Option<PathBuf>,
    /// Names of models whose disk is away, and where they were.
    pub away: Vec<(String, String)>,
}

/// Why there is no window. Each message is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum StudioError {
    /// No graphics device can draw the window.
    #[error(
        "no graphics device that can draw the window was found ({}); install a Vulkan or OpenGL driver (on Linux, mesa-vulkan-drivers draws without a graphics card), or use `vokenboard tell`",
        first_sentence(.0)
    )]
    NoGraphics(#[source] Cause),
    /// The window system refused to open the window.
    #[error("the window could not be opened ({}); without a display, use `vokenboard tell`", first_sentence(.0))]
    NoWindow(#[source] Cause),
}

/// Where stories without a folder of their own are kept: `Vokenboard` in the author's documents or,
/// without those, at home, where file managers show it.
pub fn projects_folder() -> PathBuf {
    let user = directories::UserDirs::new();
    let shown = user.map(|user| user.document_dir().unwrap_or(user.home_dir()).to_owned());
    shown.unwrap_or_default().join("Vokenboard")
}

/// Opens the studio and returns when its window is closed, with everything saved.
///
/// # Errors
/// When there is no display or no graphics device.
pub fn run(options: StudioOptions) -> Result<(), StudioError> {
    let preferences_file = preferences::usual_file();
    let kept = preferences_file.as_deref().map(Preferences::load);
    let preferences = kept.unwrap_or_default();
    let place = preferences.window;
    let mut viewport = egui::ViewportBuilder::default()
        .with_title("Vokenboard")
        .with_app_id("vokenboard")
        .with_icon(super::icons::of_the_window())
        .with_inner_size(place.size.unwrap_or([1280.0, 720.0]))
        .with_clamp_size_to_monitor_size(true)
        .with_maximized(place.maximized)
        .with_min_inner_size([480.0, 320.0]);
    if let Some(corner) = place.position {
        viewport = viewport.with_position(corner);
    }
    let native = eframe::NativeOptions {
        viewport,
        renderer: eframe::Renderer::Wgpu,
        // The sheet finds fonts by the same rule, see `typefaces`.
        system_font_fallback: false,
        event_loop_builder: x11_where_wayland_is_dead(),
        ..eframe::NativeOptions::default()
    };
    let create = move |cc: &eframe::CreationContext<'_>| {
        let ctx = cc.egui_ctx.clone();
        let wake: Arc<dyn Fn() + Send + Sync> = Arc::new(move || ctx.request_repaint_after(PACE));
        let projects = projects_folder();
        let start = preferences.folder.clone().unwrap_or(projects.clone());
        let mut state = State::new(StudioParts {
            loader_for: options.loader_for,
            choice: options.choice,
            models: options.models,
            writers: options.writers,
            dialogs: Box::new(SystemDialogs::new(start, Arc::clone(&wake))),
            wake: Arc::clone(&wake),
            projects,
            rescues: rescue_folders(),
            preferences,
            preferences_file,
            seeds: new_seed,
        });
        // Drivers take their time to answer, and no frame waits for them.
        let gpus = Arc::clone(&state.models.gpus);
        std::thread::spawn(move || gpus.set(crate::nn::gpu::adapters()));
        let library = options.library;
        state.models.library = library.map(|dir| ModelLibrary::new(dir, options.away, wake));
        if let Some(dir) = options.project {
            state.open(dir);
        }
        Ok(Box::new(App::new(&cc.egui_ctx, state)) as Box<dyn eframe::App>)
    };
    eframe::run_native("vokenboard", native, Box::new(create)).map_err(|error| match error {
        eframe::Error::Wgpu(_) => StudioError::NoGraphics(error.into()),
        _ => StudioError::NoWindow(error.into()),
    })
}

/// A session may name a Wayland socket at which nobody listens any more; where there is an X
/// server as well, the window opens there.
#[cfg(target_os = "linux")]
fn x11_where_wayland_is_dead() -> Option<eframe::EventLoopBuilderHook> {
    use winit::platform::x11::EventLoopBuilderExtX11 as _;
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let socket = PathBuf::from(set("WAYLAND_DISPLAY")?);
    set("DISPLAY")?;
    if set("WAYLAND_SOCKET").is_some() {
        return None;
    }
    let socket = match socket.is_absolute() {
        true => Some(socket),
        false => set("XDG_RUNTIME_DIR").map(|dir| PathBuf::from(dir).join(socket)),
    };
    let alive =
        socket.is_some_and(|socket| std::os::unix::net::UnixStream::connect(socket).is_ok());
    (!alive).then(|| -> eframe::EventLoopBuilderHook {
        Box::new(|builder| {
            builder.with_x11();
        })
    })
}

#[cfg(not(target_os = "linux"))]
fn x11_where_wayland_is_dead() -> Option<eframe::EventLoopBuilderHook> {
    None
}

/// Errors of the graphics stack run over many lines; the first says what matters.
fn first_sentence(error: &(impl std::fmt::Display + ?Sized)) -> String {
    let error = error.to_string();
    let line = error.lines().map(str::trim).find(|line| !line.is_empty());
    line.unwrap_or("unknown reason")
        .trim_end_matches(['.', ':'])
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_one_line_and_name_the_remedy() {
        let reason = first_sentence("\n  No adapter:\n  tried vulkan\n  tried gl\n");
        assert_eq!(reason, "No adapter");
        let error = StudioError::NoGraphics(reason.into()).to_string();
        assert!(!error.contains('\n') && error.contains("vokenboard tell"));
    }
}
