//! The large frame: the photo in sight, or the invitation to bring one.

use super::heat::{Heat, HeatLegend, HeatSwitch};
use crate::hooks::files;
use crate::photo::Photo;
use crate::session::Session;
use leptos::prelude::*;
use web_sys::{Event, HtmlInputElement};

#[component]
pub fn Stage(dragging: ReadSignal<bool>) -> impl IntoView {
    let session = expect_context::<Session>();
    let in_sight = Memo::new(move |_| session.shot().map(|shot| shot.id));
    let frame = move || match in_sight.get().and_then(|_| untrack(|| session.shot())) {
        Some(shot) => view! { <Picture photo=shot.photo /> }.into_any(),
        None => view! { <Invitation /> }.into_any(),
    };
    view! {
        <section class="stage" class:dragging=dragging class:filled=move || in_sight.get().is_some() aria-label="Photo">
            <div class="frame">{frame} <HeatSwitch /></div>
            <HeatLegend />
            <div class="bring">
                <FileButton />
                <span class="quiet">"or drop it anywhere, or paste it"</span>
            </div>
        </section>
    }
}

#[component]
fn Invitation() -> impl IntoView {
    view! {
        <div class="invitation">
            <span class="glyph" aria-hidden="true"></span>
            <p class="large">"Drop a photo here"</p>
            <p class="quiet">"JPEG, PNG, WebP, GIF, BMP, and whatever else your browser shows"</p>
        </div>
    }
}

#[component]
fn Picture(photo: Photo) -> impl IntoView {
    let (visible, set_visible) = signal(true);
    let name = photo.name().to_owned();
    let alt = format!("Your photo {name}");
    let address = photo.address().to_owned();
    view! {
        <Show
            when=move || visible.get()
            fallback=move || view! { <p class="quiet">{format!("No preview of {name}")}</p> }
        >
            <img
                src=address.clone()
                alt=alt.clone()
                data-testid="picture"
                on:error=move |_| set_visible.set(false)
            />
            <Heat />
        </Show>
    }
}

#[component]
fn FileButton() -> impl IntoView {
    let session = expect_context::<Session>();
    let chosen = move |event: Event| {
        let input: HtmlInputElement = event_target(&event);
        session.add_files(files(input.files()));
        // So that choosing the same file again is a change.
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
            on:change=chosen
        />
        <label class="button" for="file">
            "Choose a photo"
        </label>
    }
}
