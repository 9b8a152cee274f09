//! A row of sample photos to try.

use crate::photo::PhotoFile;
use crate::session::Session;
use leptos::prelude::*;
use leptos::task::spawn_local;
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use web_sys::{Blob, Response};

/// Names of the files in the folder `samples`, without the extension `.jpg`.
const SAMPLES: [&str; 5] = ["cat", "coffee", "rocket", "palace", "flower"];

#[component]
pub fn SamplePhotos() -> impl IntoView {
    let session = expect_context::<Session>();
    let sample = move |name: &'static str| {
        let open = move |_| {
            spawn_local(async move {
                match fetch(&url(name)).await {
                    Ok(blob) => {
                        session.notice.set(None);
                        session.add_photos(vec![PhotoFile::new(&format!("{name}.jpg"), blob)]);
                    }
                    Err(_) => {
                        session.show_notice(
                            "This sample photo could not be loaded. Check your connection, then try again.",
                        );
                    }
                }
            });
        };
        view! {
            <li>
                <button class="sample" data-testid=format!("sample-{name}") on:click=open>
                    <img src=url(name) alt=format!("Sample photo: {name}") draggable="false" />
                </button>
            </li>
        }
    };
    view! {
        <section class="samples" aria-labelledby="samples-title">
            <h2 id="samples-title">"No photo at hand? Try one of these"</h2>
            <ul>{SAMPLES.map(sample)}</ul>
        </section>
    }
}

fn url(name: &str) -> String {
    format!("samples/{name}.jpg")
}

async fn fetch(url: &str) -> Result<Blob, JsValue> {
    let response: Response = JsFuture::from(window().fetch_with_str(url)).await?.unchecked_into();
    if !response.ok() {
        return Err(JsValue::from(response.status()));
    }
    JsFuture::from(response.blob()?).await?.dyn_into()
}
