//! Tests of the page in Chromium, served by our server.

mod browser;
mod deployment;
mod engines;
mod explanation;
mod failures;
mod kernels;
mod main_thread;
mod size;
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

/// The bundled model with ten classes.
const SMALL_MODEL: &str = "resnet18-imagenette";

fn main() {
    let arguments = Arguments::from_args();
    let trials = vec![
        bare_trial("worker_is_within_its_size_limits", size::worker_is_within_its_limits),
        bare_trial("page_opens_with_the_thousand_class_model", opens_with_default_model),
        bare_trial("page_agrees_with_rest_on_the_samples", agrees_with_rest),
        bare_trial("page_lists_the_classes_of_the_small_model", lists_classes),
        bare_trial("page_accepts_dropped_and_pasted_photos", accepts_dropped_and_pasted_photos),
        bare_trial("page_sends_photos_for_a_large_model_to_the_server", runs_large_model_on_server),
        bare_trial("page_reports_damaged_files", failures::reports_damaged_files),
        bare_trial("page_rejects_text_files", failures::rejects_text_files),
        bare_trial("page_uses_webgpu_if_its_url_selects_it", uses_webgpu_if_selected),
        bare_trial("heatmap_covers_the_photo", explanation::heatmap_covers_the_photo),
        bare_trial("main_thread_has_no_long_tasks", main_thread::has_no_long_tasks),
        bare_trial("main_thread_has_no_long_tasks_on_webgpu", main_thread::has_no_long_tasks_on_webgpu),
        bare_trial("auto_never_opens_a_software_adapter", engines::auto_never_opens_a_software_adapter),
        bare_trial("auto_keeps_a_faster_cpu", engines::auto_keeps_and_records_a_faster_cpu),
        bare_trial("auto_rejects_webgpu_with_wrong_logits", engines::auto_rejects_wrong_logits),
        bare_trial("auto_switches_to_webgpu_and_back", engines::auto_switches_to_a_faster_gpu_and_back_on_loss),
        bare_trial("page_runs_kernels_with_workgroup_memory", engines::runs_kernels_with_workgroup_memory),
        bare_trial("photos_do_not_leak_memory", engines::photos_do_not_leak_memory),
        bare_trial("photos_do_not_leak_memory_on_webgpu", engines::photos_do_not_leak_memory_on_webgpu),
        bare_trial("page_recovers_from_a_lost_webgpu_device", engines::selected_webgpu_recovers_from_a_lost_device),
        trial("page_agrees_with_pytorch_on_webgpu", engines::selected_webgpu_agrees_with_pytorch),
        bare_trial("simd128_kernels_agree_with_scalar_kernels", kernels::simd128_agrees_with_scalar),
        bare_trial("page_runs_no_injected_code", deployment::runs_no_injected_code),
        bare_trial("page_loads_replaced_weights", deployment::loads_replaced_weights),
        bare_trial("page_without_workers_uses_the_server", failures::uses_server_without_workers),
        bare_trial("page_restarts_a_crashed_worker", failures::restarts_crashed_worker),
        bare_trial("page_rejects_weights_with_a_wrong_hash", failures::rejects_weights_with_wrong_hash),
        bare_trial("page_downloads_damaged_cached_weights_again", failures::downloads_damaged_cached_weights_again),
    ];
    libtest_mimic::run(&arguments, trials).exit();
}

fn opens_with_default_model() -> Result<()> {
    with_browser(&Server::start()?, |browser| async move {
        let view = browser.open().await?;
        let models = models(&browser).await?;
        ensure!(models.iter().any(|model| model.name == view.model && model.classes == 1000), "{view:?}");
        ensure!(view.class_list.contains("1000 kinds of things"), "{view:?}");
        ensure!(view.privacy.contains("stay on this device"), "{view:?}");
        Ok(())
    })
}

fn agrees_with_rest() -> Result<()> {
    with_browser(&Server::start()?, |browser| async move {
        browser.open().await?;
        let view = browser.classify_sample("cat").await?;
        ensure!(view.ran_in_page(), "{view:?}");
        ensure!(["tabby", "tiger cat", "Egyptian cat"].contains(&view.top_label.as_str()), "{view:?}");
        ensure!(view.milliseconds.ends_with(" ms"), "{view:?}");
        // The page never displays a probability as certain or impossible.
        ensure!(view.displayed_probabilities.iter().all(|text| text != "0 %" && text != "100 %"), "{view:?}");
        for photo in ["cat", "coffee", "rocket", "palace", "flower"] {
            let view = browser.classify_sample(photo).await?;
            let expected = rest_prediction(&browser, &view.model, photo).await?;
            assert_agreement(&Prediction { predictions: view.ranked, ..expected.clone() }, &expected)?;
        }
        Ok(())
    })
}

/// Classifies one photo with the large model and the others with the small one, since the adapter that Chromium
/// emulates is slow.
fn uses_webgpu_if_selected() -> Result<()> {
    with_browser(&Server::start()?, |browser| async move {
        browser.open_with_query("?engine=webgpu").await?;
        let view = browser.classify_sample("cat").await?;
        ensure!(view.badge == "WebGPU", "{view:?}");
        let expected = rest_prediction(&browser, &view.model, "cat").await?;
        assert_agreement(&Prediction { predictions: view.ranked, ..expected.clone() }, &expected)?;

        browser.select_model(SMALL_MODEL).await?;
        browser
            .wait_until("an answer of the small model", |view| view.class_labels.len() == 10 && !view.ranked.is_empty())
            .await?;
        for photo in ["coffee", "rocket", "palace", "flower"] {
            let view = browser.classify_sample(photo).await?;
            ensure!(view.badge == "WebGPU", "{view:?}");
            let expected = rest_prediction(&browser, SMALL_MODEL, photo).await?;
            assert_agreement(&Prediction { predictions: view.ranked, ..expected.clone() }, &expected)?;
        }
        Ok(())
    })
}

fn lists_classes() -> Result<()> {
    with_browser(&Server::start()?, |browser| async move {
        browser.open().await?;
        browser.classify_sample("cat").await?;
        browser.select_model(SMALL_MODEL).await?;
        let answered = |view: &view::View| view.class_labels.len() == 10 && !view.ranked.is_empty();
        let view = browser.wait_until("an answer of the small model", answered).await?;
        ensure!(
            view.class_labels.contains(&"church".to_owned()) && view.class_labels.contains(&view.top_label),
            "{view:?}"
        );
        ensure!(view.class_list.contains("Exactly 10 things"), "{view:?}");
        let expected = rest_prediction(&browser, SMALL_MODEL, "cat").await?;
        assert_agreement(&Prediction { predictions: view.ranked, ..expected.clone() }, &expected)
    })
}

/// Dispatches a drop or paste event with the files at some URLs.
const TRANSFER_FILES: &str = r#"
    const [event, urls, done] = arguments;
    (async () => {
        const data = new DataTransfer();
        for (const url of urls) {
            const blob = await (await fetch(url)).blob();
            data.items.add(new File([blob], url.split("/").pop(), { type: blob.type }));
        }
        const options = { bubbles: true, cancelable: true };
        document.body.dispatchEvent(event === "drop"
            ? new DragEvent("drop", { ...options, dataTransfer: data })
            : new ClipboardEvent("paste", { ...options, clipboardData: data }));
        done();
    })();
"#;

fn accepts_dropped_and_pasted_photos() -> Result<()> {
    with_small_model(|browser| async move {
        browser.open().await?;
        let photos = serde_json::json!(["samples/palace.jpg", "samples/rocket.jpg"]);
        browser.client.execute_async(TRANSFER_FILES, vec!["drop".into(), photos]).await?;
        browser.answer_for("palace.jpg").await?;
        browser
            .client
            .execute_async(TRANSFER_FILES, vec!["paste".into(), serde_json::json!(["samples/cat.jpg"])])
            .await?;
        let pasted = browser.answer_for("cat.jpg").await?;
        let all_answered =
            |view: &view::View| view.captions.len() == 3 && view.captions.iter().all(|caption| caption != "…");
        let view = browser.wait_until("answers for all three photos", all_answered).await?;
        ensure!(view.captions[2] == pasted.top_label, "{view:?}");
        Ok(())
    })
}

fn runs_large_model_on_server() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let large = folder.path().join("large.safetensors");
    let bundled = workspace::root().join(format!("checkpoints/{SMALL_MODEL}.safetensors"));
    let converted = Command::new(workspace::binary("trainer")?)
        .arg("convert")
        .args([&bundled, &large])
        .args(["--dtype", "f32"])
        .output()
        .context("cannot start the trainer")?;
    ensure!(converted.status.success(), "{}", String::from_utf8_lossy(&converted.stderr));

    let server = Server::start_with(["--model".to_owned(), format!("large={}", large.display())])?;
    with_browser(&server, |browser| async move {
        let view = browser.open().await?;
        ensure!(view.privacy.contains("Your photos are sent there"), "{view:?}");
        let view = browser.classify_sample("cat").await?;
        ensure!(view.ran_on_server(), "{view:?}");
        ensure!(browser.count("explain").await? == 0, "an explanation is offered for an answer of the server");
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

/// Returns the server's prediction for a sample photo.
async fn rest_prediction(browser: &Browser, model: &str, sample: &str) -> Result<Prediction> {
    let bytes = std::fs::read(workspace::sample(&format!("{sample}.jpg")))?;
    let url = format!("{}/predict?model={model}&top_k=5", browser.site);
    Ok(reqwest::Client::new().post(url).body(bytes).send().await?.error_for_status()?.json().await?)
}
