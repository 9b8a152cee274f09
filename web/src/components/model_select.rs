//! The drop-down list for selecting a model.

use crate::model_list::ModelInfo;
use crate::session::Session;
use leptos::prelude::*;
use std::sync::Arc;

#[component]
pub fn ModelSelect(models: Vec<Arc<ModelInfo>>) -> impl IntoView {
    let session = expect_context::<Session>();
    let option = |model: &Arc<ModelInfo>| {
        let name = model.name.clone();
        let selected = move || session.model.get().is_some_and(|model| model.name == name);
        let text = format!("{}: {} classes", model.name, model.classes);
        view! {
            <option value=model.name.clone() selected=selected>
                {text}
            </option>
        }
    };
    let options: Vec<_> = models.iter().map(option).collect();
    let select = move |event| {
        let name = event_target_value(&event);
        if let Some(model) = models.iter().find(|model| model.name == name) {
            session.select_model(model.clone());
        }
    };
    view! {
        <div class="model-select">
            <label for="model">"Model"</label>
            <select id="model" data-testid="model-select" on:change=select>
                {options}
            </select>
        </div>
    }
}
