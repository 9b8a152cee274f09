//! The page in a real browser, served by the real server.

mod browser;
mod engines;
mod explanation;
mod kernels;
mod main_thread;
mod operated;
mod trouble;
mod view;

use anyhow::{Context, Result, ensure};
use browser::{Browser, with_browser, with_small_model};
use libtest_mimic::Arguments;
use model::prediction::Prediction;
use serde::Deserialize;
use std::process::Command;
use tests::agreement::assert_agreement;
use tests::data::{bare_trial, trial};
use tests::server::Server;
use tests::workspace;

/// The bundled model of ten classes.
const TEN: &str = "resnet18-imagenette";

fn main() {
    let arguments = Arguments::from_args();
    let trials = vec![
        bare_trial("page_opens_on_the_model_that_knows_a_thousand_things", opening),
        bare_trial("page_answers_the_samples_as_rest_does", same_as_rest),
        bare_trial("page_lists_the_ten_things_of_the_small_model", ten_things),
        bare_trial("page_takes_photos_that_are_dropped_or_pasted", dropped_and_pasted),
        bare_trial("page_leaves_a_large_model_to_the_server", large_model),
        bare_trial("page_survives_a_broken_file", trouble::broken_file),
        bare_trial("page_says_that_a_text_is_no_photo", trouble::text_dropped),
        bare_trial("page_answers_on_webgpu_if_its_address_asks_for_it", on_webgpu),
        bare_trial("explanation_lies_over_the_photo", explanation::lies_over_the_photo),
        bare_trial("main_thread_is_never_busy_for_50_ms", main_thread::is_never_busy_for_50_ms),
        bare_trial("main_thread_is_never_busy_on_webgpu", main_thread::is_never_busy_for_50_ms_on_webgpu),
        bare_trial("auto_never_opens_an_adapter_that_is_software", engines::auto_leaves_software_alone),
        bare_trial("auto_stays_on_the_cpu_if_that_is_faster", engines::auto_stays_on_a_faster_cpu_and_remembers),
        bare_trial("auto_refuses_webgpu_that_is_wrong", engines::auto_refuses_a_gpu_that_computes_nonsense),
        bare_trial(
            "auto_goes_over_to_webgpu_and_back",
            engines::auto_goes_over_to_a_faster_gpu_and_back_when_it_is_lost,
        ),
        bare_trial(
            "page_runs_kernels_with_workgroup_memory",
            engines::kernels_with_workgroup_memory_are_a_browsers_too,
        ),
        bare_trial("photos_leave_no_memory_behind", engines::photos_leave_no_memory_behind),
        bare_trial("photos_leave_no_memory_behind_on_webgpu", engines::photos_leave_no_memory_behind_on_webgpu),
        bare_trial("page_survives_the_loss_of_webgpu", engines::a_gpu_by_name_that_is_lost_is_replaced),
        trial("page_predicts_on_webgpu_as_pytorch", engines::a_gpu_by_name_predicts_as_pytorch),
        bare_trial("kernels_of_the_browser_agree_with_the_plain_ones", kernels::agree_with_the_plain_ones),
        bare_trial("page_runs_nothing_but_its_own", operated::nothing_but_its_own_runs),
        bare_trial("page_finds_weights_that_are_new", operated::new_weights_are_found),
        bare_trial("page_without_workers_leaves_everything_to_the_server", trouble::no_workers),
        bare_trial("page_starts_another_worker_when_one_is_lost", trouble::lost_worker),
        bare_trial("page_refuses_weights_that_were_not_announced", trouble::wrong_weights),
        bare_trial("page_fetches_weights_again_that_were_damaged_in_its_cache", trouble::damaged_cache),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

fn opening() -> Result<()> {
    with_browser(&Server::start()?, |browser| async move {
        let view = browser.visit().await?;
        let models = models(&browser).await?;
        ensure!(models.iter().any(|model| model.name == view.model && model.classes == 1000), "{view:?}");
        ensure!(view.knowledge.contains("1000 kinds of things"), "{view:?}");
        ensure!(view.privacy.contains("stay on this device"), "{view:?}");
        Ok(())
    })
}

fn same_as_rest() -> Result<()> {
    with_browser(&Server::start()?, |browser| async move {
        browser.visit().await?;
        let view = browser.classify_sample("cat").await?;
        ensure!(view.ran_in_page(), "{view:?}");
        ensure!(["tabby", "tiger cat", "Egyptian cat"].contains(&view.best.as_str()), "{view:?}");
        ensure!(view.milliseconds.ends_with(" ms"), "{view:?}");
        // Nothing is certain, and the page does not say so.
        ensure!(view.percents.iter().all(|percent| percent != "0 %" && percent != "100 %"), "{view:?}");
        for photo in ["cat", "coffee", "rocket", "palace", "flower"] {
            let view = browser.classify_sample(photo).await?;
            let expected = rest(&browser, &view.model, photo).await?;
            assert_agreement(&Prediction { predictions: view.ranked, ..expected.clone() }, &expected)?;
        }
        Ok(())
    })
}

/// On the adapter that Chromium emulates, which is slow: the small network, and one photo of the large one.
fn on_webgpu() -> Result<()> {
    with_browser(&Server::start()?, |browser| async move {
        browser.visit_with("?engine=webgpu").await?;
        let view = browser.classify_sample("cat").await?;
        ensure!(view.badge == "WebGPU", "{view:?}");
        let expected = rest(&browser, &view.model, "cat").await?;
        assert_agreement(&Prediction { predictions: view.ranked, ..expected.clone() }, &expected)?;

        browser.choose_model(TEN).await?;
        browser
            .until("an answer of the small model", |view| view.things.len() == 10 && !view.ranked.is_empty())
            .await?;
        for photo in ["coffee", "rocket", "palace", "flower"] {
            let view = browser.classify_sample(photo).await?;
            ensure!(view.badge == "WebGPU", "{view:?}");
            let expected = rest(&browser, TEN, photo).await?;
            assert_agreement(&Prediction { predictions: view.ranked, ..expected.clone() }, &expected)?;
        }
        Ok(())
    })
}

fn ten_things() -> Result<()> {
    with_browser(&Server::start()?, |browser| async move {
        browser.visit().await?;
        browser.classify_sample("cat").await?;
        browser.choose_model(TEN).await?;
        let answered = |view: &view::View| view.things.len() == 10 && !view.ranked.is_empty();
        let view = browser.until("an answer of the small model", answered).await?;
        ensure!(view.things.contains(&"church".to_owned()) && view.things.contains(&view.best), "{view:?}");
        ensure!(view.knowledge.contains("Exactly 10 things"), "{view:?}");
        let expected = rest(&browser, TEN, "cat").await?;
        assert_agreement(&Prediction { predictions: view.ranked, ..expected.clone() }, &expected)
    })
}

/// Hands files to the page as `event` does; `fetched` are addresses of files that a visitor has.
const HAND_OVER: &str = r#"
    const [event, fetched, done] = arguments;
    (async () => {
        const data = new DataTransfer();
        for (const address of fetched) {
            const blob = await (await fetch(address)).blob();
            data.items.add(new File([blob], address.split("/").pop(), { type: blob.type }));
        }
        const options = { bubbles: true, cancelable: true };
        document.body.dispatchEvent(event === "drop"
            ? new DragEvent("drop", { ...options, dataTransfer: data })
            : new ClipboardEvent("paste", { ...options, clipboardData: data }));
        done();
    })();
"#;

fn dropped_and_pasted() -> Result<()> {
    with_small_model(|browser| async move {
        browser.visit().await?;
        let photos = serde_json::json!(["samples/palace.jpg", "samples/rocket.jpg"]);
        browser.client.execute_async(HAND_OVER, vec!["drop".into(), photos]).await?;
        browser.answer_for("palace.jpg").await?;
        browser.client.execute_async(HAND_OVER, vec!["paste".into(), serde_json::json!(["samples/cat.jpg"])]).await?;
        let pasted = browser.answer_for("cat.jpg").await?;
        let all = |view: &view::View| view.captions.len() == 3 && view.captions.iter().all(|caption| caption != "…");
        let view = browser.until("answers to all three", all).await?;
        ensure!(view.captions[2] == pasted.best, "{view:?}");
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
    with_browser(&server, |browser| async move {
        let view = browser.visit().await?;
        ensure!(view.privacy.contains("Your photos are sent there"), "{view:?}");
        let view = browser.classify_sample("cat").await?;
        ensure!(view.ran_on_server(), "{view:?}");
        ensure!(browser.count("explain").await? == 0, "the server explains nothing");
        Ok(())
    })
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

async fn models(browser: &Browser) -> Result<Vec<Model>> {
    let response = reqwest::get(format!("{}/models", browser.site)).await?.error_for_status()?;
    Ok(response.json::<Models>().await?.models)
}

/// What the server answers to a sample's bytes.
async fn rest(browser: &Browser, model: &str, sample: &str) -> Result<Prediction> {
    let bytes = std::fs::read(workspace::sample(&format!("{sample}.jpg")))?;
    let address = format!("{}/predict?model={model}&top_k=5", browser.site);
    Ok(reqwest::Client::new().post(address).body(bytes).send().await?.error_for_status()?.json().await?)
}
