//! Files that are dropped or pasted anywhere on the page.

use leptos::ev;
use leptos::prelude::*;
use web_sys::{ClipboardEvent, DragEvent, File, FileList};

pub enum Dropped {
    /// At least one file.
    Files(Vec<File>),
    /// A link, a text or an image of another page: the browser gives no access to its bytes.
    NoFiles,
}

/// Listens for drops. Returns whether something is being dragged over the page.
pub fn use_drop(on_drop: impl Fn(Dropped) + 'static) -> ReadSignal<bool> {
    let (dragging, set_dragging) = signal(false);
    window_event_listener(ev::dragover, move |event: DragEvent| {
        // By default the browser would navigate to the dropped file.
        event.prevent_default();
        if !dragging.get_untracked() {
            set_dragging.set(true);
        }
    });
    window_event_listener(ev::dragleave, move |event: DragEvent| {
        // Only an event that leaves the window has no related target.
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

/// Listens for pasted files. Pasted text keeps its default handling.
pub fn use_paste(on_paste: impl Fn(Vec<File>) + 'static) {
    window_event_listener(ev::paste, move |event: ClipboardEvent| {
        let files = files(event.clipboard_data().and_then(|data| data.files()));
        if !files.is_empty() {
            event.prevent_default();
            on_paste(files);
        }
    });
}

pub fn files(list: Option<FileList>) -> Vec<File> {
    let list = list.into_iter().flat_map(|list| (0..list.length()).filter_map(move |index| list.get(index)));
    list.collect()
}
