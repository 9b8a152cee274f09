//! What spoke for the answer, laid over the photo in sight, with the button for it and the legend.

use crate::heat::address;
use crate::session::Session;
use crate::shot::{Answer, Outcome};
use leptos::prelude::*;
use model::explain::Explanation;

/// The answer in sight, if it can be explained.
fn explained(session: Session) -> Option<(Answer, Explanation)> {
    match session.shot()?.outcome {
        Outcome::Answered(answer) => answer.explanation.clone().map(|explanation| (answer, explanation)),
        _ => None,
    }
}

/// Covers the frame as the photo does.
#[component]
pub fn Heat() -> impl IntoView {
    let session = expect_context::<Session>();
    let shown = Memo::new(move |_| session.explaining.get().then(|| explained(session)).flatten());
    move || {
        let (_, Explanation { map, region }) = shown.get()?;
        let (width, height) = region.photo;
        Some(view! {
            <svg class="heat" viewBox=format!("0 0 {width} {height}") aria-hidden="true" data-testid="heat">
                <image
                    href=address(&map)?
                    x=region.left.to_string()
                    y=region.top.to_string()
                    width=region.width.to_string()
                    height=region.height.to_string()
                    preserveAspectRatio="none"
                />
            </svg>
        })
    }
}

/// Absent where there is nothing to show.
#[component]
pub fn HeatSwitch() -> impl IntoView {
    let session = expect_context::<Session>();
    let possible = Memo::new(move |_| explained(session).is_some());
    view! {
        <Show when=move || possible.get()>
            <button
                class="switch"
                data-testid="explain"
                aria-pressed=move || session.explaining.get().to_string()
                on:click=move |_| session.explaining.update(|explaining| *explaining = !*explaining)
            >
                "Show what it looked at"
            </button>
        </Show>
    }
}

/// What the colours mean, while there are any.
#[component]
pub fn HeatLegend() -> impl IntoView {
    let session = expect_context::<Session>();
    let text = Memo::new(move |_| {
        let (answer, _) = session.explaining.get().then(|| explained(session)).flatten()?;
        let best = answer.prediction.predictions.first()?;
        Some(format!("Warm colours lie where it found signs of “{}”.", best.label))
    });
    view! {
        <p class="legend quiet" aria-live="polite">
            {move || text.get()}
        </p>
    }
}
