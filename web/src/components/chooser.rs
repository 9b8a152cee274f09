//! Which model answers.

use crate::catalogue::Model;
use crate::session::Session;
use leptos::prelude::*;
use std::sync::Arc;

#[component]
pub fn Chooser(models: Vec<Arc<Model>>) -> impl IntoView {
    let session = expect_context::<Session>();
    let option = |model: &Arc<Model>| {
        let name = model.name.clone();
        let chosen = move || session.model.get().is_some_and(|model| model.name == name);
        let text = format!("{}: {} things", model.name, model.classes);
        view! {
            <option value=model.name.clone() selected=chosen>
                {text}
            </option>
        }
    };
    let options: Vec<_> = models.iter().map(option).collect();
    let choose = move |event| {
        let name = event_target_value(&event);
        if let Some(model) = models.iter().find(|model| model.name == name) {
            session.choose(model.clone());
        }
    };
    view! {
        <div class="chooser">
            <label for="model">"Model"</label>
            <select id="model" data-testid="chooser" on:change=choose>
                {options}
            </select>
        </div>
    }
}
