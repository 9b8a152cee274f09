//! Tests of the page in Chromium, served by our server.

mod browser;
mod deployment;
mod engines;
mod explanation;
mod failures;
mod kernels;
mod main_thread;
mod rest;
mod size;
mod view;

use anyhow::{Result, ensure};
use browser::{Browser, Environment};
use libtest_mimic::Arguments;
use model::checkpoint::{Checkpoint, Dtype};
use serde::Deserialize;
use std::sync::Arc;
use tests::data::{bare_trial, trial};
use tests::server::Server;
use tests::workspace::{self, SMALL_MODEL};
use view::View;

fn main() {
    let arguments = Arguments::from_args();
    let environment = Arc::new(Environment::new().expect("a runtime can be created"));
    let with = |test: fn(&Environment) -> Result<()>| {
        let environment = environment.clone();
        move || test(&environment)
    };
    let trials = vec![
        // First those that run alone, then the slowest, so that all threads are busy to the end.
        bare_trial("main_thread_has_no_long_tasks", with(main_thread::has_no_long_tasks)),
        bare_trial("main_thread_has_no_long_tasks_on_webgpu", with(main_thread::has_no_long_tasks_on_webgpu)),
        bare_trial("auto_switches_to_webgpu_and_back", with(engines::auto_switches_to_a_faster_gpu_and_back_on_loss)),
        bare_trial("page_runs_kernels_with_workgroup_memory", with(engines::runs_kernels_with_workgroup_memory)),
        bare_trial("auto_keeps_a_faster_cpu", with(engines::auto_keeps_and_records_a_faster_cpu)),
        bare_trial("photos_do_not_leak_memory_on_webgpu", with(engines::photos_do_not_leak_memory_on_webgpu)),
        trial("page_agrees_with_pytorch_on_webgpu", with(engines::selected_webgpu_agrees_with_pytorch)),
        bare_trial(
            "page_recovers_from_a_lost_webgpu_device",
            with(engines::selected_webgpu_recovers_from_a_lost_device),
        ),
        bare_trial("worker_is_within_its_size_limits", size::worker_is_within_its_limits),
        bare_trial("page_agrees_with_rest_for_both_models", with(agrees_with_rest)),
        bare_trial("page_accepts_dropped_and_pasted_photos", with(accepts_dropped_and_pasted_photos)),
        bare_trial("page_sends_photos_for_a_large_model_to_the_server", with(runs_large_model_on_server)),
        bare_trial("page_reports_damaged_files", with(failures::reports_damaged_files)),
        bare_trial("page_rejects_text_files", with(failures::rejects_text_files)),
        bare_trial("heatmap_covers_the_photo", with(explanation::heatmap_covers_the_photo)),
        bare_trial("auto_never_opens_a_software_adapter", with(engines::auto_never_opens_a_software_adapter)),
        bare_trial("auto_rejects_webgpu_with_wrong_logits", with(engines::auto_rejects_wrong_logits)),
        bare_trial("photos_do_not_leak_memory", with(engines::photos_do_not_leak_memory)),
        bare_trial("simd128_kernels_agree_with_scalar_kernels", with(kernels::simd128_agrees_with_scalar)),
        bare_trial("page_runs_no_injected_code", with(deployment::runs_no_injected_code)),
        bare_trial("page_loads_replaced_weights", with(deployment::loads_replaced_weights)),
        bare_trial("page_marks_answers_below_the_threshold", with(deployment::marks_answers_below_the_threshold)),
        bare_trial("page_without_workers_uses_the_server", with(failures::uses_server_without_workers)),
        bare_trial("page_restarts_a_crashed_worker", with(failures::restarts_crashed_worker)),
        bare_trial("page_rejects_weights_with_a_wrong_hash", with(failures::rejects_weights_with_wrong_hash)),
        bare_trial(
            "page_downloads_damaged_cached_weights_again",
            with(failures::downloads_damaged_cached_weights_again),
        ),
    ];
    let conclusion = libtest_mimic::run(&arguments, trials);
    // `exit` runs no destructors, and browsers and servers must stop with the test.
    drop(environment);
    conclusion.exit();
}

/// The page opens with the large model, and lists the classes of the small one when that is selected.
fn agrees_with_rest(environment: &Environment) -> Result<()> {
    environment.with_bundled_models(|browser| async move {
        let view = browser.open().await?;
        let models = models(&browser).await?;
        ensure!(models.iter().any(|model| model.name == view.model && model.classes == 1000), "{view:?}");
        ensure!(view.class_list.contains("1000 kinds of things"), "{view:?}");
        ensure!(view.privacy.contains("stay on this device"), "{view:?}");
        for photo in ["coffee", "rocket", "palace", "flower", "cat"] {
            browser.classify_sample(photo).await?.check_agreement_on_sample(&browser, photo).await?;
        }
        let view = browser.read_view().await?;
        ensure!(view.ran_in_page(), "{view:?}");
        ensure!(["tabby", "tiger cat", "Egyptian cat"].contains(&view.top_label.as_str()), "{view:?}");
        ensure!(view.milliseconds.ends_with(" ms"), "{view:?}");
        ensure!(view.not_confident.is_empty(), "the model has no rejection threshold: {view:?}");
        // The page never displays a probability as certain or impossible.
        ensure!(view.displayed_probabilities.iter().all(|text| text != "0 %" && text != "100 %"), "{view:?}");

        browser.select_model(SMALL_MODEL).await?;
        let answered = |view: &View| view.class_labels.len() == 10 && !view.ranked.is_empty();
        let view = browser.wait_until("an answer of the small model", answered).await?;
        ensure!(
            view.class_labels.contains(&"church".to_owned()) && view.class_labels.contains(&view.top_label),
            "{view:?}"
        );
        ensure!(view.class_list.contains("Exactly 10 things"), "{view:?}");
        view.check_agreement_on_sample(&browser, "cat").await
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

fn accepts_dropped_and_pasted_photos(environment: &Environment) -> Result<()> {
    environment.with_small_model(|browser| async move {
        browser.open().await?;
        let photos = serde_json::json!(["samples/palace.jpg", "samples/rocket.jpg"]);
        browser.client.execute_async(TRANSFER_FILES, vec!["drop".into(), photos]).await?;
        browser.answer_for("palace.jpg").await?;
        browser
            .client
            .execute_async(TRANSFER_FILES, vec!["paste".into(), serde_json::json!(["samples/cat.jpg"])])
            .await?;
        let pasted = browser.answer_for("cat.jpg").await?;
        let all_answered = |view: &View| view.captions.len() == 3 && view.captions.iter().all(|caption| caption != "…");
        let view = browser.wait_until("answers for all three photos", all_answered).await?;
        ensure!(view.captions[2] == pasted.top_label, "{view:?}");
        Ok(())
    })
}

fn runs_large_model_on_server(environment: &Environment) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let large = folder.path().join("large.safetensors");
    Checkpoint::from_path(workspace::checkpoint(SMALL_MODEL))?.convert(Dtype::F32)?.save(&large)?;
    let server = Server::start_with(["--model".to_owned(), format!("large={}", large.display())])?;
    environment.with_browser(&server, |browser| async move {
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
