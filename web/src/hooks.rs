//! Files that are dropped or pasted anywhere on the page.

use leptos::ev;
use leptos::prelude::*;
use web_sys::{ClipboardEvent, DragEvent, File, FileList};

pub enum DropContent {
    /// At least one file.
    Files(Vec<File>),
    /// A link, text, or an image from another page, to whose bytes the browser gives no access.
    NoFiles,
}

/// Calls `on_drop` whenever something is dropped. The returned signal is true while something is dragged over the page.
pub fn use_drop(on_drop: impl Fn(DropContent) + 'static) -> ReadSignal<bool> {
    let (dragging, set_dragging) = signal(false);
    window_event_listener(ev::dragover, move |event: DragEvent| {
        // By default, the browser would leave the page and open the dropped file.
        event.prevent_default();
        if !dragging.get_untracked() {
            set_dragging.set(true);
        }
    });
    window_event_listener(ev::dragleave, move |event: DragEvent| {
        // The event has no related target only when the pointer leaves the window.
        if event.related_target().is_none() {
            set_dragging.set(false);
        }
    });
    window_event_listener(ev::drop, move |event: DragEvent| {
        event.prevent_default();
        set_dragging.set(false);
        let files = files(event.data_transfer().and_then(|data| data.files()));
        on_drop(if files.is_empty() { DropContent::NoFiles } else { DropContent::Files(files) });
    });
    dragging
}

/// Calls `on_paste` for pasted files. Pasted text is left to the focused element.
pub fn use_paste(on_paste: impl Fn(Vec<File>) + 'static) {
    window_event_listener(ev::paste, move |event: ClipboardEvent| {
        let files = files(event.clipboard_data().and_then(|data| data.files()));
        if !files.is_empty() {
            event.prevent_default();
            on_paste(files);
        }
    });
}

/// Returns the files of a list, and no files if there is no list.
pub fn files(list: Option<FileList>) -> Vec<File> {
    let list = list.into_iter().flat_map(|list| (0..list.length()).filter_map(move |index| list.get(index)));
    list.collect()
}
