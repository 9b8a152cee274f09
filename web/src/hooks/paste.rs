//! Pictures pasted anywhere on the page.

use super::files;
use leptos::ev;
use leptos::prelude::*;
use web_sys::{ClipboardEvent, File};

/// Texts are left to whatever has the focus.
pub fn use_paste(on_paste: impl Fn(Vec<File>) + 'static) {
    window_event_listener(ev::paste, move |event: ClipboardEvent| {
        let files = files(event.clipboard_data().and_then(|data| data.files()));
        if !files.is_empty() {
            event.prevent_default();
            on_paste(files);
        }
    });
}
