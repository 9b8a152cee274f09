//! The root component, which lays out the page.

use crate::components::{AnswerPanel, ClassList, ModelSelect, ModelStatus, PhotoFrame, SamplePhotos, Thumbnails};
use crate::hooks::{DropContent, use_drop, use_paste};
use crate::queue;
use crate::session::{ModelList, Session};
use leptos::prelude::*;

#[component]
pub fn App() -> impl IntoView {
    let session = Session::new();
    provide_context(session);
    queue::start(session);
    session.load_models();

    use_paste(move |files| session.add_files(files));
    let dragging = use_drop(move |content| match content {
        DropContent::Files(files) => session.add_files(files),
        DropContent::NoFiles => {
            session.show_notice(
                "What you dropped is not a file. Save the image to your device first, or copy it and paste it here.",
            );
        }
    });

    view! {
        <Header />
        <main class="page">
            <div class="photo-column">
                <Notice />
                <PhotoFrame dragging />
                <Thumbnails />
                <SamplePhotos />
            </div>
            <div class="answer-column">
                {move || match session.models.get() {
                    ModelList::Loading => view! { <p class="muted">"Loading the list of models …"</p> }.into_any(),
                    ModelList::Failed(message) => {
                        view! {
                            <div class="error" role="alert" data-testid="error">
                                <p>{message}</p>
                                <button on:click=move |_| session.load_models()>"Try again"</button>
                            </div>
                        }
                            .into_any()
                    }
                    ModelList::Loaded(models) => {
                        view! {
                            <ModelSelect models />
                            <ModelStatus />
                            <AnswerPanel />
                            <ClassList />
                        }
                            .into_any()
                    }
                }}
            </div>
        </main>
    }
}

#[component]
fn Header() -> impl IntoView {
    view! {
        <header class="header">
            // An image file, since the page's content security policy forbids inline styles within an SVG.
            <img class="logo" src="icon.svg" alt="" />
            <h1>"Shortcut"</h1>
            <p>"See what a neural network recognises in your photos"</p>
        </header>
    }
}

/// Shows messages that do not belong to a photo.
#[component]
fn Notice() -> impl IntoView {
    let session = expect_context::<Session>();
    let content = move || {
        session.notice.get().map(|message| {
            view! {
                <p>{message}</p>
                <button class="dismiss" aria-label="Dismiss this message" on:click=move |_| session.notice.set(None)>
                    "×"
                </button>
            }
        })
    };
    view! {
        <div class="notice" role="alert" data-testid="notice">
            {content}
        </div>
    }
}
