//! The name at the top.

use leptos::prelude::*;

#[component]
pub fn Header() -> impl IntoView {
    view! {
        <header class="header">
            // As an image, since the page's policy lets no style stand within it.
            <img class="logo" src="icon.svg" alt="" />
            <h1>"Shortcut"</h1>
            <p>"What a residual network sees in a photo"</p>
        </header>
    }
}
