//! The page beside what an operator does: a policy of what it may run, and models that are replaced.

use crate::browser::with_browser;
use crate::{TEN, rest};
use anyhow::{Context, Result, ensure};
use model::architecture::Architecture;
use model::prediction::Prediction;
use model::random;
use serde_json::Value;
use tests::agreement::assert_agreement;
use tests::server::Server;
use tests::workspace;

const TOKEN: &str = "hush";

/// Keeps what the browser refused because of the policy.
const VIOLATIONS: &str = r#"
    window.violations = [];
    document.addEventListener("securitypolicyviolation", event =>
        window.violations.push(`${event.violatedDirective}: ${event.blockedURI} at ${event.sourceFile}:${event.lineNumber} ${event.sample}`));
"#;

/// What somebody would do who got words of his own into the page. The browser tells of refusals a little later.
const INTRUDE: &str = r#"
    const [done] = arguments;
    const script = document.createElement("script");
    script.textContent = "window.intruded = true";
    document.body.append(script);
    const button = document.createElement("button");
    button.setAttribute("onclick", "window.intruded = true");
    button.click();
    fetch("https://example.org/steal").catch(() => null);
    const kinds = ["script-src-elem", "script-src-attr", "connect-src"];
    const refused = () => kinds.every(kind => window.violations.some(violation => violation.startsWith(kind)));
    const begun = performance.now();
    const look = () => refused() || performance.now() - begun > 5000
        ? done([window.intruded ?? false, window.violations, refused()])
        : setTimeout(look, 10);
    look();
"#;

pub fn nothing_but_its_own_runs() -> Result<()> {
    with_browser(&Server::start()?, |browser| async move {
        browser.prelude(VIOLATIONS).await?;
        browser.visit().await?;
        browser.choose_model(TEN).await?;
        browser.until("the small model", |view| view.things.len() == 10 && !view.privacy.is_empty()).await?;
        let view = browser.classify_sample("palace").await?;
        ensure!(view.ran_in_page(), "{view:?}");
        browser.press("explain").await?;
        ensure!(browser.count("heat").await? == 1, "nothing is explained");
        let violations = browser.client.execute("return window.violations", vec![]).await?;
        ensure!(violations == Value::Array(vec![]), "the page does what it may not: {violations}");

        let outcome = browser.client.execute_async(INTRUDE, vec![]).await?;
        ensure!(outcome[0] == false && outcome[2] == true, "{outcome}");
        Ok(())
    })
}

pub fn new_weights_are_found() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join(format!("{TEN}.safetensors"));
    std::fs::copy(workspace::root().join(format!("checkpoints/{TEN}.safetensors")), &path)?;
    let models = folder.path().to_str().context("the path is no text")?;
    let server = Server::start_with(["--models", models, "--admin-token", TOKEN])?;
    with_browser(&server, |browser| async move {
        browser.visit().await?;
        let old = browser.classify_sample("cat").await?;
        ensure!(old.ran_in_page(), "{old:?}");

        std::fs::write(&path, random::checkpoint(Architecture::new("resnet18", 10)?).to_bytes())?;
        let load = format!("{}/v2/repository/models/{TEN}/load", browser.site);
        reqwest::Client::new().post(load).bearer_auth(TOKEN).send().await?.error_for_status()?;

        // Who has the page open goes on with the weights it has, and finds the new ones with the next visit.
        let still = browser.classify_sample("palace").await?;
        ensure!(still.ran_in_page(), "{still:?}");
        browser.visit().await?;
        let new = browser.classify_sample("cat").await?;
        let expected = rest(&browser, TEN, "cat").await?;
        ensure!(new.ranked != old.ranked, "the old weights answered");
        assert_agreement(&Prediction { predictions: new.ranked, ..expected.clone() }, &expected)
    })
}
