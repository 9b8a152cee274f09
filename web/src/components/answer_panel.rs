//! The panel with the model's answer for the selected photo.

use super::timing::Timing;
use crate::format::{milliseconds, percent};
use crate::photo_entry::{Answer, PhotoStatus};
use crate::session::{Readiness, Session};
use leptos::prelude::*;
use model::prediction::ClassScore;

/// Probability of the most likely class below which the answer is presented as uncertain, if the model has no rejection
/// threshold.
const UNCERTAIN_BELOW: f32 = 0.3;

/// Notice about an answer below the model's rejection threshold.
const NOT_CONFIDENT: &str = "The model is not confident in this answer.";

#[component]
pub fn AnswerPanel() -> impl IntoView {
    let session = expect_context::<Session>();
    let status = Memo::new(move |_| session.selected_photo().map(|entry| (entry.id, entry.status)));
    let queued = move || match session.readiness.get() {
        Readiness::Loading { .. } => "Waiting for the model to load …",
        _ => "Waiting for the other photos …",
    };
    let content = move || match status.get() {
        None => view! { <p class="muted">"Add a photo to see what it shows."</p> }.into_any(),
        Some((_, PhotoStatus::Queued)) => view! { <Placeholder text=queued /> }.into_any(),
        Some((_, PhotoStatus::Running)) => view! { <Placeholder text=|| "Classifying the photo …" /> }.into_any(),
        Some((id, PhotoStatus::Failed { message, retryable })) => view! {
            <div class="error" role="alert" data-testid="error">
                <p>{message}</p>
                {retryable.then(|| view! { <button on:click=move |_| session.retry_photo(id)>"Try again"</button> })}
            </div>
        }
        .into_any(),
        Some((_, PhotoStatus::Answered(answer))) => view! { <AnswerDetails answer /> }.into_any(),
    };
    let announcement = move || match status.get() {
        Some((_, PhotoStatus::Answered(answer))) => announcement(&answer),
        _ => String::new(),
    };
    view! {
        <section class="answer" aria-label="Answer" data-testid="answer">
            {content}
        </section>
        <p class="visually-hidden" role="status" aria-live="polite">
            {announcement}
        </p>
    }
}

#[component]
fn AnswerDetails(answer: Answer) -> impl IntoView {
    let session = expect_context::<Session>();
    let best = answer.prediction.predictions.first().cloned();
    let few_classes = session.model.get_untracked().filter(|model| model.has_few_classes()).map(|model| model.classes);
    let below_threshold = answer.prediction.below_threshold;
    let heading = best.map(|best| {
        let uncertain = below_threshold.unwrap_or(best.probability < UNCERTAIN_BELOW);
        let lead = match few_classes {
            Some(classes) => format!("Of the {classes} things this model recognises, this looks most like"),
            None if uncertain => "Not certain, but it may be".to_owned(),
            None => "This looks like".to_owned(),
        };
        view! {
            <p class="lead">{lead}</p>
            <p class="top-label" data-testid="top-label">
                {best.label}
            </p>
        }
    });
    let notice = (below_threshold == Some(true))
        .then(|| view! { <p class="not-confident" data-testid="not-confident">{NOT_CONFIDENT}</p> });
    view! {
        <div class="result" data-testid="result">
            {heading}
            {notice}
            <ClassBars ranked=answer.prediction.predictions.clone() />
            <Timing answer />
        </div>
    }
}

/// Shows the most likely classes with their probabilities, as text and as bars.
#[component]
fn ClassBars(ranked: Vec<ClassScore>) -> impl IntoView {
    let bar = |ClassScore { label, index, probability }: ClassScore| {
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

/// Reserves the space of an answer until it arrives, so that the layout does not shift.
#[component]
fn Placeholder(text: impl Fn() -> &'static str + Send + 'static) -> impl IntoView {
    view! {
        <div class="placeholder" aria-busy="true">
            <p class="lead">{text}</p>
            <span class="skeleton"></span>
            <span class="skeleton"></span>
            <span class="skeleton"></span>
        </div>
    }
}

/// Returns the text that screen readers announce.
fn announcement(answer: &Answer) -> String {
    let Some(best) = answer.prediction.predictions.first() else { return String::new() };
    let (label, probability) = (&best.label, percent(best.probability));
    let (time, badge) = (milliseconds(answer.prediction.timing_ms.total), answer.badge());
    let notice =
        if answer.prediction.below_threshold == Some(true) { format!(" {NOT_CONFIDENT}") } else { String::new() };
    format!("{label}, {probability}.{notice} Computed in {time} ({badge}).")
}
