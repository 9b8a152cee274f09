//! Thumbnails of the photos, shown when there is more than one.

use crate::photo_entry::{PhotoEntry, PhotoStatus};
use crate::session::Session;
use leptos::prelude::*;

#[component]
pub fn Thumbnails() -> impl IntoView {
    let session = expect_context::<Session>();
    let ids = move || session.photos.with(|photos| photos.iter().map(|entry| entry.id).collect::<Vec<_>>());
    let several = move || session.photos.with(|photos| photos.len() > 1);
    view! {
        <Show when=several>
            <ul class="thumbnails" aria-label="Your photos">
                <For each=ids key=|id| *id let(id)>
                    <Thumbnail id />
                </For>
            </ul>
        </Show>
    }
}

#[component]
fn Thumbnail(id: u32) -> impl IntoView {
    let session = expect_context::<Session>();
    let find = move |photos: &Vec<PhotoEntry>| photos.iter().find(|entry| entry.id == id).cloned();
    let url = session.photos.with_untracked(find).map(|entry| entry.photo.url().to_owned());
    let caption = move || session.photos.with(find).map(|entry| caption(&entry.status)).unwrap_or_default();
    let (visible, set_visible) = signal(true);
    let selected = move || session.selected.get() == Some(id);
    view! {
        <li>
            <button
                class="thumbnail"
                aria-pressed=move || selected().to_string()
                on:click=move |_| session.select_photo(id)
            >
                <span class="thumbnail-frame">
                    <img src=url alt="" class:hidden=move || !visible.get() on:error=move |_| set_visible.set(false) />
                </span>
                <span class="caption" data-testid="caption">
                    {caption}
                </span>
            </button>
        </li>
    }
}

fn caption(status: &PhotoStatus) -> String {
    match status {
        PhotoStatus::Queued | PhotoStatus::Running => "…".into(),
        PhotoStatus::Failed { .. } => "failed".into(),
        PhotoStatus::Answered(answer) => {
            answer.prediction.predictions.first().map(|best| best.label.clone()).unwrap_or_default()
        }
    }
}
