//! What has to be said and belongs to no photo.

use crate::session::Session;
use leptos::prelude::*;

#[component]
pub fn Notice() -> impl IntoView {
    let session = expect_context::<Session>();
    let text = move || {
        session.notice.get().map(|text| {
            view! {
                <p>{text}</p>
                <button class="plain" aria-label="Dismiss" on:click=move |_| session.notice.set(None)>
                    "×"
                </button>
            }
        })
    };
    view! {
        <div class="notice" role="alert" data-testid="notice">
            {text}
        </div>
    }
}
