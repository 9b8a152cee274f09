//! The page as a whole: what stands where.

use crate::components::{Answer, Chooser, Knowledge, Samples, Stage, Status, Strip};
use crate::hooks::{Dropped, use_drop, use_paste};
use crate::queue;
use crate::session::{Catalogue, Session};
use leptos::prelude::*;

#[component]
pub fn App() -> impl IntoView {
    let session = Session::new();
    provide_context(session);
    queue::start(session);
    session.open();

    use_paste(move |files| session.add_files(files));
    let dragging = use_drop(move |dropped| match dropped {
        Dropped::Files(files) => session.add_files(files),
        Dropped::NoFiles => session
            .say("That is no file, so there is no photo in it. Save the picture first, or copy it and paste it here."),
    });

    view! {
        <Header />
        <main class="page">
            <div class="looking">
                <Notice />
                <Stage dragging />
                <Strip />
                <Samples />
            </div>
            <div class="reading">
                {move || match session.models.get() {
                    Catalogue::Loading => view! { <p class="quiet">"Asking the server for its models …"</p> }.into_any(),
                    Catalogue::Failed(why) => {
                        view! {
                            <div class="trouble" role="alert" data-testid="error">
                                <p>{why}</p>
                                <button on:click=move |_| session.open()>"Try again"</button>
                            </div>
                        }
                            .into_any()
                    }
                    Catalogue::Ready(models) => {
                        view! {
                            <Chooser models />
                            <Status />
                            <Answer />
                            <Knowledge />
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
            <p>"What a residual network sees in a photo"</p>
        </header>
    }
}

/// Shows messages that belong to no photo.
#[component]
fn Notice() -> impl IntoView {
    let session = expect_context::<Session>();
    let text = move || {
        session.notice.get().map(|text| {
            view! {
                <p>{text}</p>
                <button class="plain" aria-label="Dismiss" on:click=move |_| session.notice.set(None)>
                    "×"
                </button>
            }
        })
    };
    view! {
        <div class="notice" role="alert" data-testid="notice">
            {text}
        </div>
    }
}
