//! The classes of the selected model. The visitor should know that every photo is assigned one of them, whatever it
//! shows.

use crate::model_list::ModelInfo;
use crate::session::Session;
use leptos::prelude::*;
use std::sync::Arc;

#[component]
pub fn ClassList() -> impl IntoView {
    let session = expect_context::<Session>();
    let content = move || {
        session.model.get().map(|model| {
            if model.has_few_classes() {
                view! { <FullList model /> }.into_any()
            } else {
                view! { <SearchableList model /> }.into_any()
            }
        })
    };
    view! {
        <section class="class-list" aria-labelledby="class-list-title" data-testid="class-list">
            <h2 id="class-list-title">"What this model recognises"</h2>
            {content}
        </section>
    }
}

#[component]
fn FullList(model: Arc<ModelInfo>) -> impl IntoView {
    let labels = model.labels.iter().map(|label| view! { <li data-testid="class">{label.clone()}</li> });
    view! {
        <p>
            {format!("Exactly {} things. For a photo of anything else, you get the closest match.", model.classes)}
        </p>
        <ul class="classes">{labels.collect::<Vec<_>>()}</ul>
    }
}

#[component]
fn SearchableList(model: Arc<ModelInfo>) -> impl IntoView {
    let (open, set_open) = signal(false);
    let (query, set_query) = signal(String::new());
    let classes = model.classes;
    let matches = Memo::new(move |_| {
        let query = query.get().trim().to_lowercase();
        let labels = model.labels.iter().filter(|label| label.to_lowercase().contains(&query));
        labels.cloned().collect::<Vec<String>>()
    });
    let count = move || match matches.with(Vec::len) {
        0 => "no match".to_owned(),
        count => format!("{count} of {classes}"),
    };
    let list = move || {
        let labels = matches.get().into_iter().map(|label| view! { <li>{label}</li> });
        labels.collect::<Vec<_>>()
    };
    view! {
        <p>
            {format!("{classes} kinds of things. For a photo of anything else, you get the closest match.")}
        </p>
        <details on:toggle=move |_| set_open.update(|open| *open = !*open)>
            <summary>"Search the list"</summary>
            <Show when=move || open.get()>
                <label class="search">
                    <span class="visually-hidden">"Search for something that the model recognises"</span>
                    <input
                        type="search"
                        placeholder="Type a name"
                        on:input=move |event| set_query.set(event_target_value(&event))
                    />
                    <span class="muted" aria-live="polite">
                        {count}
                    </span>
                </label>
                <ul class="classes scrolling">{list}</ul>
            </Show>
        </details>
    }
}
