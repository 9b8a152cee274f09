//! The large frame with the selected photo, or with an invitation to add one.

use super::heatmap::{HeatmapLegend, HeatmapOverlay, HeatmapToggle};
use crate::hooks::files;
use crate::photo::PhotoFile;
use crate::session::Session;
use leptos::prelude::*;
use web_sys::{Event, HtmlInputElement};

#[component]
pub fn PhotoFrame(dragging: ReadSignal<bool>) -> impl IntoView {
    let session = expect_context::<Session>();
    let selected = Memo::new(move |_| session.selected_photo().map(|entry| entry.id));
    let content = move || match selected.get().and_then(|_| untrack(|| session.selected_photo())) {
        Some(entry) => view! { <SelectedPhoto photo=entry.photo /> }.into_any(),
        None => view! { <Invitation /> }.into_any(),
    };
    view! {
        <section
            class="photo-frame"
            class:dragging=dragging
            class:filled=move || selected.get().is_some()
            aria-label="Photo"
        >
            <div class="frame">{content} <HeatmapToggle /></div>
            <HeatmapLegend />
            <div class="add-photo">
                <FileButton />
                <span class="muted">"or drop or paste one anywhere on this page"</span>
            </div>
        </section>
    }
}

#[component]
fn Invitation() -> impl IntoView {
    view! {
        <div class="invitation">
            <span class="photo-icon" aria-hidden="true"></span>
            <p class="large">"Drop a photo here"</p>
            <p class="muted">"JPEG, PNG, WebP, GIF, BMP, or any other image that your browser can show"</p>
        </div>
    }
}

#[component]
fn SelectedPhoto(photo: PhotoFile) -> impl IntoView {
    let (visible, set_visible) = signal(true);
    let name = photo.name().to_owned();
    let alt = format!("Your photo {name}");
    let url = photo.url().to_owned();
    view! {
        <Show
            when=move || visible.get()
            fallback=move || view! { <p class="muted">{format!("Your browser cannot show a preview of {name}.")}</p> }
        >
            <img
                src=url.clone()
                alt=alt.clone()
                data-testid="photo"
                on:error=move |_| set_visible.set(false)
            />
            <HeatmapOverlay />
        </Show>
    }
}

#[component]
fn FileButton() -> impl IntoView {
    let session = expect_context::<Session>();
    let on_change = move |event: Event| {
        let input: HtmlInputElement = event_target(&event);
        session.add_files(files(input.files()));
        // Otherwise, selecting the same file again would not fire a change event.
        input.set_value("");
    };
    view! {
        <input
            id="file"
            class="visually-hidden"
            type="file"
            accept="image/*"
            multiple
            data-testid="file"
            on:change=on_change
        />
        <label class="button" for="file">
            "Choose a photo"
        </label>
    }
}
