//! The photos of this visit as thumbnails, once there are several.

use crate::session::Session;
use crate::shot::{Outcome, Shot};
use leptos::prelude::*;

#[component]
pub fn Strip() -> impl IntoView {
    let session = expect_context::<Session>();
    let ids = move || session.shots.with(|shots| shots.iter().map(|shot| shot.id).collect::<Vec<_>>());
    let several = move || session.shots.with(|shots| shots.len() > 1);
    view! {
        <Show when=several>
            <ul class="strip" aria-label="Photos of this visit">
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
    let of = move |shots: &Vec<Shot>| shots.iter().find(|shot| shot.id == id).cloned();
    let address = session.shots.with_untracked(of).map(|shot| shot.photo.address().to_owned());
    let caption = move || session.shots.with(of).map(|shot| caption(&shot.outcome)).unwrap_or_default();
    let (visible, set_visible) = signal(true);
    let shown = move || session.shown.get() == Some(id);
    view! {
        <li>
            <button class="thumbnail" aria-pressed=move || shown().to_string() on:click=move |_| session.show(id)>
                <span class="small-frame">
                    <img src=address alt="" class:absent=move || !visible.get() on:error=move |_| set_visible.set(false) />
                </span>
                <span class="caption" data-testid="caption">
                    {caption}
                </span>
            </button>
        </li>
    }
}

fn caption(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Waiting | Outcome::Running => "…".into(),
        Outcome::Failed { .. } => "not read".into(),
        Outcome::Answered(answer) => {
            answer.prediction.predictions.first().map(|best| best.label.clone()).unwrap_or_default()
        }
    }
}
