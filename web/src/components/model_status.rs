//! The progress of the selected model's download, then where the model runs and what that means for the visitor's
//! privacy.

use crate::format::megabytes;
use crate::session::{Readiness, ServerReason, Session};
use leptos::prelude::*;

#[component]
pub fn ModelStatus() -> impl IntoView {
    let session = expect_context::<Session>();
    // `None` while loading, so that a change of the received bytes does not recreate the progress bar.
    let loaded = Memo::new(move |_| match session.readiness.get() {
        Readiness::Loading { .. } => None,
        loaded => Some(loaded),
    });
    let content = move || match loaded.get() {
        None => view! { <Loading /> }.into_any(),
        Some(readiness) => view! { <Privacy readiness /> }.into_any(),
    };
    view! { <div class="model-status">{content}</div> }
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
        (received, total) => format!("Downloading the model: {} of {} MB", megabytes(received), megabytes(total)),
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
        Readiness::NoModel | Readiness::Loading { .. } => ().into_any(),
        Readiness::InPage => view! {
            <p class="privacy" data-testid="privacy">
                "Runs in this page. Your photos stay on this device."
            </p>
        }
        .into_any(),
        Readiness::OnServer(ServerReason::TooLarge) => view! {
            <p class="privacy on-server" data-testid="privacy">
                {format!(
                    "This model ({size} MB) is too large for a page, so it runs on the server. Your photos are sent \
                     there, but not stored."
                )}
            </p>
        }
        .into_any(),
        Readiness::OnServer(ServerReason::Failed(message)) => view! {
            <div class="error" role="alert">
                <p data-testid="error">{message}</p>
                <p class="privacy on-server" data-testid="privacy">
                    "The model therefore runs on the server. Your photos are sent there, but not stored."
                </p>
                <button on:click=move |_| session.reload_model()>"Try again in this page"</button>
            </div>
        }
        .into_any(),
    }
}
