//! What the chosen model can tell apart, said plainly: whatever a photo shows, one of these is the answer.

use crate::catalogue::Model;
use crate::session::Session;
use leptos::prelude::*;
use std::sync::Arc;

#[component]
pub fn Knowledge() -> impl IntoView {
    let session = expect_context::<Session>();
    let content = move || {
        session.model.get().map(|model| {
            if model.knows_few() { view! { <Few model /> }.into_any() } else { view! { <Many model /> }.into_any() }
        })
    };
    view! {
        <section class="knowledge" aria-labelledby="knowledge-title" data-testid="knowledge">
            <h2 id="knowledge-title">"What it knows"</h2>
            {content}
        </section>
    }
}

#[component]
fn Few(model: Arc<Model>) -> impl IntoView {
    let things = model.labels.iter().map(|label| view! { <li data-testid="thing">{label.clone()}</li> });
    view! {
        <p>
            {format!("Exactly {} things. A photo of anything else is called by the one that it resembles most.", model.classes)}
        </p>
        <ul class="things">{things.collect::<Vec<_>>()}</ul>
    }
}

#[component]
fn Many(model: Arc<Model>) -> impl IntoView {
    let (open, set_open) = signal(false);
    let (wanted, set_wanted) = signal(String::new());
    let classes = model.classes;
    let found = Memo::new(move |_| {
        let wanted = wanted.get().trim().to_lowercase();
        let labels = model.labels.iter().filter(|label| label.to_lowercase().contains(&wanted));
        labels.cloned().collect::<Vec<String>>()
    });
    let count = move || match found.with(Vec::len) {
        0 => "It does not know that.".to_owned(),
        count => format!("{count} of {classes}"),
    };
    let list = move || {
        let things = found.get().into_iter().map(|label| view! { <li>{label}</li> });
        things.collect::<Vec<_>>()
    };
    view! {
        <p>
            {format!("{classes} kinds of things: animals, plants, food, vehicles, tools, buildings. ")}
            "A photo of anything else is called by the one that it resembles most."
        </p>
        <details on:toggle=move |_| set_open.update(|open| *open = !*open)>
            <summary>"Look one up"</summary>
            <Show when=move || open.get()>
                <label class="search">
                    <span class="visually-hidden">"Look for a thing that it knows"</span>
                    <input
                        type="search"
                        placeholder="teapot, spaniel, …"
                        on:input=move |event| set_wanted.set(event_target_value(&event))
                    />
                    <span class="quiet" aria-live="polite">
                        {count}
                    </span>
                </label>
                <ul class="things scrolling">{list}</ul>
            </Show>
        </details>
    }
}
