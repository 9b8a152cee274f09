//! The page as a whole: what stands where.

use crate::components::{Answer, Chooser, Header, Knowledge, Notice, Samples, Stage, Status, Strip};
use crate::hooks::{Dropped, use_drop, use_paste};
use crate::session::{Catalogue, Session};
use leptos::prelude::*;

#[component]
pub fn App() -> impl IntoView {
    let session = Session::new();
    provide_context(session);
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
