//! Things dropped anywhere on the page.

use super::files;
use leptos::ev;
use leptos::prelude::*;
use web_sys::{DragEvent, File};

pub enum Dropped {
    /// At least one.
    Files(Vec<File>),
    /// A link, a text, a picture of another page: nothing whose bytes could be had.
    NoFiles,
}

/// Returns whether something is being dragged over the page.
pub fn use_drop(on_drop: impl Fn(Dropped) + 'static) -> ReadSignal<bool> {
    let (dragging, set_dragging) = signal(false);
    window_event_listener(ev::dragover, move |event: DragEvent| {
        // Without this the browser leaves the page for the file.
        event.prevent_default();
        if !dragging.get_untracked() {
            set_dragging.set(true);
        }
    });
    window_event_listener(ev::dragleave, move |event: DragEvent| {
        // Only the way out of the window has no element at its other end.
        if event.related_target().is_none() {
            set_dragging.set(false);
        }
    });
    window_event_listener(ev::drop, move |event: DragEvent| {
        event.prevent_default();
        set_dragging.set(false);
        let files = files(event.data_transfer().and_then(|data| data.files()));
        on_drop(if files.is_empty() { Dropped::NoFiles } else { Dropped::Files(files) });
    });
    dragging
}
