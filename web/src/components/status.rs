//! Where the chosen model runs, what that means for the photos, and how far its weights have come.

use crate::session::{Readiness, Reason, Session};
use crate::words::megabytes;
use leptos::prelude::*;

#[component]
pub fn Status() -> impl IntoView {
    let session = expect_context::<Session>();
    // Without the bytes, so that a bar that grows is not made anew.
    let settled = Memo::new(move |_| match session.readiness.get() {
        Readiness::Loading { .. } => None,
        settled => Some(settled),
    });
    let content = move || match settled.get() {
        None => view! { <Loading /> }.into_any(),
        Some(readiness) => view! { <Privacy readiness /> }.into_any(),
    };
    view! { <div class="status">{content}</div> }
}

#[component]
fn Loading() -> impl IntoView {
    let session = expect_context::<Session>();
    let bytes = move || match session.readiness.get() {
        Readiness::Loading { received, total } => (received, total),
        _ => (0, 1),
    };
    let text = move || match bytes() {
        (received, total) if received == total => "Preparing the model …".to_owned(),
        (received, total) => format!("Bringing the model here: {} of {} MB", megabytes(received), megabytes(total)),
    };
    view! {
        <label class="loading" data-testid="progress">
            <span>{text}</span>
            <progress max=move || bytes().1.to_string() value=move || bytes().0.to_string()></progress>
        </label>
    }
}

#[component]
fn Privacy(readiness: Readiness) -> impl IntoView {
    let session = expect_context::<Session>();
    let size = session.model.get_untracked().map(|model| megabytes(model.bytes)).unwrap_or_default();
    match readiness {
        Readiness::Idle | Readiness::Loading { .. } => ().into_any(),
        Readiness::InPage => view! {
            <p class="privacy" data-testid="privacy">
                "Runs in this page. Your photos stay on this device."
            </p>
        }
        .into_any(),
        Readiness::OnServer(Reason::TooLarge) => view! {
            <p class="privacy away" data-testid="privacy">
                {format!("Runs on the server, since {size} MB are too much for a page. Your photos are sent there and not kept.")}
            </p>
        }
        .into_any(),
        Readiness::OnServer(Reason::Failed(why)) => view! {
            <div class="trouble" role="alert">
                <p data-testid="error">{why}</p>
                <p class="privacy away" data-testid="privacy">
                    "So the model runs on the server: your photos are sent there and not kept."
                </p>
                <button on:click=move |_| session.retry()>"Try again in this page"</button>
            </div>
        }
        .into_any(),
    }
}
