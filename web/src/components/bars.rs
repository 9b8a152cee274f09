//! The likeliest classes as bars.

use crate::words::percent;
use leptos::prelude::*;
use model::prediction::Ranked;

#[component]
pub fn Bars(ranked: Vec<Ranked>) -> impl IntoView {
    let bar = |Ranked { label, index, probability }: Ranked| {
        view! {
            <li data-testid="ranked" data-index=index.to_string()>
                <span class="label" data-testid="label">
                    {label}
                </span>
                <data value=probability.to_string() data-testid="probability">
                    {percent(probability)}
                </data>
                <span class="bar" aria-hidden="true">
                    <span style:width=format!("{:.2}%", probability * 100.0)></span>
                </span>
            </li>
        }
    };
    view! { <ol class="bars">{ranked.into_iter().map(bar).collect::<Vec<_>>()}</ol> }
}
