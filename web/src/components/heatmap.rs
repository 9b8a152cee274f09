//! The heat map over the photo, which shows the areas that led to the answer, with its button and legend.

use crate::heatmap::data_url;
use crate::photo_entry::{Answer, PhotoStatus};
use crate::session::Session;
use leptos::prelude::*;
use model::explain::Explanation;

/// Returns the answer for the selected photo and its explanation, if it has one.
fn explained_answer(session: Session) -> Option<(Answer, Explanation)> {
    match session.selected_photo()?.status {
        PhotoStatus::Answered(answer) => answer.explanation.clone().map(|explanation| (answer, explanation)),
        _ => None,
    }
}

/// Draws the heat map over the region of the photo that the model has seen. It is scaled with the photo.
#[component]
pub fn HeatmapOverlay() -> impl IntoView {
    let session = expect_context::<Session>();
    let shown = Memo::new(move |_| session.show_heatmap.get().then(|| explained_answer(session)).flatten());
    move || {
        let (_, Explanation { map, region }) = shown.get()?;
        let (width, height) = region.photo;
        Some(view! {
            <svg class="heatmap" viewBox=format!("0 0 {width} {height}") aria-hidden="true" data-testid="heatmap">
                <image
                    href=data_url(&map)?
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

/// Shows or hides the heat map. The button is absent if the answer has no explanation.
#[component]
pub fn HeatmapToggle() -> impl IntoView {
    let session = expect_context::<Session>();
    let available = Memo::new(move |_| explained_answer(session).is_some());
    view! {
        <Show when=move || available.get()>
            <button
                class="heatmap-toggle"
                data-testid="explain"
                aria-pressed=move || session.show_heatmap.get().to_string()
                on:click=move |_| session.show_heatmap.update(|shown| *shown = !*shown)
            >
                "Show what the model looked at"
            </button>
        </Show>
    }
}

/// Explains the colours while the heat map is shown.
#[component]
pub fn HeatmapLegend() -> impl IntoView {
    let session = expect_context::<Session>();
    let text = Memo::new(move |_| {
        let (answer, _) = session.show_heatmap.get().then(|| explained_answer(session)).flatten()?;
        let best = answer.prediction.predictions.first()?;
        Some(format!("Warm colours mark the areas that look like “{}” to the model.", best.label))
    });
    view! {
        <p class="heatmap-legend muted" aria-live="polite">
            {move || text.get()}
        </p>
    }
}
