//! The badge that shows where an answer was computed, and the duration of each phase.

use crate::format::milliseconds;
use crate::photo_entry::{Answer, ComputedIn};
use leptos::prelude::*;

#[component]
pub fn Timing(answer: Answer) -> impl IntoView {
    let timing = answer.prediction.timing_ms;
    let on_server = answer.computed_in == ComputedIn::Server;
    let transfer = if on_server { "to the server and back" } else { "to the page's worker and back" };
    let phases = [
        ("decoding the photo", timing.decode),
        ("resizing and cropping", timing.preprocess),
        ("waiting", timing.queue),
        ("running the network", timing.inference),
        (transfer, (answer.elapsed_ms - timing.total).max(0.0)),
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
        <details class="timing">
            <summary>
                <span class="badge" class:on-server=on_server data-testid="badge">
                    {answer.badge()}
                </span>
                <span data-testid="milliseconds">{milliseconds(timing.total)}</span>
                <span class="muted">{answer.prediction.architecture.clone()}</span>
            </summary>
            <dl>{phases.map(row)}</dl>
        </details>
    }
}
