//! The name at the top.

use leptos::prelude::*;

#[component]
pub fn Header() -> impl IntoView {
    view! {
        <header class="header">
            <span class="logo" aria-hidden="true" inner_html=include_str!("../../icon.svg")></span>
            <h1>"Shortcut"</h1>
            <p>"What a residual network sees in a photo"</p>
        </header>
    }
}
