//! What the photo in sight shows, says the model.

use super::origin::Origin;
use crate::session::{Readiness, Session};
use crate::shot::{self, Outcome};
use crate::words::{milliseconds, percent};
use leptos::prelude::*;
use model::prediction::Ranked;

/// Below this probability the likeliest class is a guess, and called one.
const A_GUESS: f32 = 0.3;

#[component]
pub fn Answer() -> impl IntoView {
    let session = expect_context::<Session>();
    let outcome = Memo::new(move |_| session.shot().map(|shot| (shot.id, shot.outcome)));
    let waiting = move || match session.readiness.get() {
        Readiness::Loading { .. } => "As soon as the model is here …",
        _ => "Its turn comes …",
    };
    let content = move || match outcome.get() {
        None => view! { <p class="quiet">"The answer appears here."</p> }.into_any(),
        Some((_, Outcome::Waiting)) => view! { <Expecting text=waiting /> }.into_any(),
        Some((_, Outcome::Running)) => view! { <Expecting text=|| "Looking …" /> }.into_any(),
        Some((id, Outcome::Failed { why, passing })) => view! {
            <div class="trouble" role="alert" data-testid="error">
                <p>{why}</p>
                {passing.then(|| view! { <button on:click=move |_| session.ask_again(id)>"Try again"</button> })}
            </div>
        }
        .into_any(),
        Some((_, Outcome::Answered(answer))) => view! { <Answered answer /> }.into_any(),
    };
    let spoken = move || match outcome.get() {
        Some((_, Outcome::Answered(answer))) => speak(&answer),
        _ => String::new(),
    };
    view! {
        <section class="answer" aria-label="Answer" data-testid="answer">
            {content}
        </section>
        <p class="visually-hidden" role="status" aria-live="polite">
            {spoken}
        </p>
    }
}

#[component]
fn Answered(answer: shot::Answer) -> impl IntoView {
    let session = expect_context::<Session>();
    let best = answer.prediction.predictions.first().cloned();
    let few = session.model.get_untracked().filter(|model| model.knows_few()).map(|model| model.classes);
    let heading = best.map(|best| {
        let guess = best.probability < A_GUESS;
        let lead = match few {
            Some(classes) => format!("Of the {classes} things it knows, most like"),
            None if guess => "Not sure, but perhaps".to_owned(),
            None => "This looks like".to_owned(),
        };
        view! {
            <p class="lead">{lead}</p>
            <p class="best" data-testid="best">
                {best.label}
            </p>
        }
    });
    view! {
        <div class="answered" data-testid="result">
            {heading}
            <Bars ranked=answer.prediction.predictions.clone() />
            <Origin answer />
        </div>
    }
}

/// Shows the most likely classes as bars.
#[component]
fn Bars(ranked: Vec<Ranked>) -> impl IntoView {
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

/// The room that an answer will take, so that nothing jumps when it comes.
#[component]
fn Expecting(text: impl Fn() -> &'static str + Send + 'static) -> impl IntoView {
    view! {
        <div class="expecting" aria-busy="true">
            <p class="lead">{text}</p>
            <span class="ghost"></span>
            <span class="ghost"></span>
            <span class="ghost"></span>
        </div>
    }
}

fn speak(answer: &shot::Answer) -> String {
    let Some(best) = answer.prediction.predictions.first() else { return String::new() };
    let (label, likely) = (&best.label, percent(best.probability));
    let (time, place) = (milliseconds(answer.prediction.timing_ms.total), answer.badge());
    format!("{label}, {likely}. Computed in {time}, {place}.")
}
