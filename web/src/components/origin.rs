//! Where an answer comes from, and how long it took.

use crate::shot::{Answer, Place};
use crate::words::milliseconds;
use leptos::prelude::*;

#[component]
pub fn Origin(answer: Answer) -> impl IntoView {
    let timing = answer.prediction.timing_ms;
    let away = answer.place == Place::Server;
    let way = if away { "to the server and back" } else { "to the worker and back" };
    let phases = [
        ("reading the file", timing.decode),
        ("scaling and cropping", timing.preprocess),
        ("waiting", timing.queue),
        ("the network", timing.inference),
        (way, (answer.elapsed_ms - timing.total).max(0.0)),
    ];
    let row = |(phase, ms): (&'static str, f64)| {
        view! {
            <div>
                <dt>{phase}</dt>
                <dd>{milliseconds(ms)}</dd>
            </div>
        }
    };
    view! {
        <details class="origin">
            <summary>
                <span class="badge" class:away=away data-testid="badge">
                    {answer.badge()}
                </span>
                <span data-testid="milliseconds">{milliseconds(timing.total)}</span>
                <span class="quiet">{answer.prediction.architecture.clone()}</span>
            </summary>
            <dl>{phases.map(row)}</dl>
        </details>
    }
}
