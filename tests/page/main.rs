//! The page in a real browser, served by the real server.

mod browser;
mod view;

use anyhow::{Context, Result, ensure};
use browser::{Browser, with_browser};
use libtest_mimic::{Arguments, Trial};
use model::prediction::Prediction;
use serde::Deserialize;
use std::process::Command;
use tests::agreement::assert_agreement;
use tests::data::bare_trial;
use tests::server::Server;
use tests::workspace;
use view::View;

/// The bundled model of ten classes.
const TEN: &str = "resnet18-imagenette";
const IN_PAGE: [&str; 2] = ["CPU in this page", "WebGPU"];

fn main() {
    let arguments = Arguments::from_args();
    let trials: Vec<Trial> = vec![
        bare_trial("page_opens_on_the_model_that_knows_a_thousand_things", opening),
        bare_trial("page_answers_a_sample_as_rest_does", same_as_rest),
        bare_trial("page_lists_the_ten_things_of_the_small_model", ten_things),
        bare_trial("page_survives_a_broken_file", broken_file),
        bare_trial("page_leaves_a_large_model_to_the_server", large_model),
        bare_trial("page_without_workers_leaves_everything_to_the_server", no_workers),
        bare_trial("page_refuses_weights_that_were_not_announced", wrong_weights),
        bare_trial("page_fetches_weights_again_that_were_damaged_in_its_cache", damaged_cache),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

fn opening() -> Result<()> {
    let server = Server::start()?;
    let url = server.url().to_owned();
    with_browser(|browser| async move {
        let view = browser.visit(&url).await?;
        ensure!(models(&url).await?.iter().any(|model| model.name == view.model && model.classes == 1000), "{view:?}");
        ensure!(view.knowledge.contains("1000 kinds of things"), "{view:?}");
        ensure!(view.privacy.contains("stay on this device"), "{view:?}");
        Ok(())
    })
}

fn same_as_rest() -> Result<()> {
    let server = Server::start()?;
    let url = server.url().to_owned();
    with_browser(|browser| async move {
        browser.visit(&url).await?;
        let view = browser.classify_sample("cat").await?;
        ensure!(ran_in_page(&view), "{view:?}");
        ensure!(["tabby", "tiger cat", "Egyptian cat"].contains(&view.best.as_str()), "{view:?}");
        ensure!(view.milliseconds.ends_with(" ms"), "{view:?}");
        let expected = rest(&url, &view.model, "cat").await?;
        assert_agreement(&Prediction { predictions: view.ranked, ..expected.clone() }, &expected)
    })
}

fn ten_things() -> Result<()> {
    let server = Server::start()?;
    let url = server.url().to_owned();
    with_browser(|browser| async move {
        browser.visit(&url).await?;
        browser.classify_sample("cat").await?;
        browser.choose_model(TEN).await?;
        let view =
            browser.until("an answer of the small model", |view| view.things.len() == 10 && !view.ranked.is_empty());
        let view = view.await?;
        ensure!(view.things.contains(&"church".to_owned()) && view.things.contains(&view.best), "{view:?}");
        ensure!(view.knowledge.contains("Exactly 10 things"), "{view:?}");
        let expected = rest(&url, TEN, "cat").await?;
        assert_agreement(&Prediction { predictions: view.ranked, ..expected.clone() }, &expected)
    })
}

fn broken_file() -> Result<()> {
    let server = Server::start()?;
    let url = server.url().to_owned();
    with_browser(|browser| async move {
        browser.visit(&url).await?;
        let folder = tempfile::tempdir()?;

        let damaged = folder.path().join("damaged.jpg");
        std::fs::write(&damaged, &std::fs::read(workspace::sample("cat.jpg"))?[..300])?;
        browser.upload(&damaged).await?;
        browser.until("a damaged photo is called so", |view| view.error.contains("damaged")).await?;

        let text = folder.path().join("text.jpg");
        std::fs::write(&text, "no photo at all")?;
        browser.upload(&text).await?;
        browser.until("a text is called no photo", |view| view.error.contains("not a photo")).await?;

        let view = browser.classify_sample("cat").await?;
        ensure!(ran_in_page(&view) && view.error.is_empty(), "{view:?}");
        Ok(())
    })
}

fn large_model() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let large = folder.path().join("large.safetensors");
    let bundled = workspace::root().join(format!("checkpoints/{TEN}.safetensors"));
    let converted = Command::new(workspace::binary("trainer")?)
        .arg("convert")
        .args([&bundled, &large])
        .args(["--dtype", "f32"])
        .output()
        .context("the trainer cannot be started")?;
    ensure!(converted.status.success(), "{}", String::from_utf8_lossy(&converted.stderr));

    let server = Server::start_with(["--model".to_owned(), format!("large={}", large.display())])?;
    let url = server.url().to_owned();
    with_browser(|browser| async move {
        let view = browser.visit(&url).await?;
        ensure!(view.privacy.contains("Your photos are sent there"), "{view:?}");
        answered_by_server(&browser).await
    })
}

fn no_workers() -> Result<()> {
    let server = Server::start()?;
    let url = server.url().to_owned();
    with_browser(|browser| async move {
        browser.prelude("window.Worker = class { constructor() { throw new Error('no workers here') } }").await?;
        let view = browser.visit(&url).await?;
        ensure!(view.privacy.contains("your photos are sent there"), "{view:?}");
        answered_by_server(&browser).await
    })
}

fn wrong_weights() -> Result<()> {
    let server = Server::start()?;
    let url = server.url().to_owned();
    with_browser(|browser| async move {
        let script = r#"
            const honest = window.fetch;
            window.fetch = async (address, ...rest) => {
                const response = await honest(address, ...rest);
                if (address !== "models") return response;
                const list = await response.json();
                list.models.forEach(model => model.sha256 = "0".repeat(64));
                return Response.json(list);
            };
        "#;
        browser.prelude(script).await?;
        let view = browser.visit(&url).await?;
        ensure!(view.error.contains("not those that the server announced"), "{view:?}");
        answered_by_server(&browser).await
    })
}

fn damaged_cache() -> Result<()> {
    let server = Server::start()?;
    let url = server.url().to_owned();
    with_browser(|browser| async move {
        browser.visit(&url).await?;
        let damage = r#"
            const done = arguments[0];
            (async () => {
                const cache = await caches.open("shortcut-weights");
                const kept = await cache.keys();
                for (const request of kept) await cache.put(request, new Response("damaged"));
                done(kept.length);
            })();
        "#;
        let kept = browser.client.execute_async(damage, vec![]).await?;
        ensure!(kept == 1, "{kept} files are kept");
        browser.visit(&url).await?;
        let view = browser.classify_sample("cat").await?;
        ensure!(ran_in_page(&view), "{view:?}");
        Ok(())
    })
}

async fn answered_by_server(browser: &Browser) -> Result<()> {
    let view = browser.classify_sample("cat").await?;
    ensure!(view.badge == "server", "{view:?}");
    Ok(())
}

fn ran_in_page(view: &View) -> bool {
    IN_PAGE.contains(&view.badge.as_str())
}

#[derive(Deserialize)]
struct Models {
    models: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    name: String,
    classes: usize,
}

async fn models(url: &str) -> Result<Vec<Model>> {
    let models: Models = reqwest::get(format!("{url}/models")).await?.error_for_status()?.json().await?;
    Ok(models.models)
}

/// What the server answers to a sample's bytes.
async fn rest(url: &str, model: &str, sample: &str) -> Result<Prediction> {
    let bytes = std::fs::read(workspace::sample(&format!("{sample}.jpg")))?;
    let address = format!("{url}/predict?model={model}&top_k=5");
    Ok(reqwest::Client::new().post(address).body(bytes).send().await?.error_for_status()?.json().await?)
}
