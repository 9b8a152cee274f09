//! The page's thread is never busy for so long that a visitor could feel it.

use crate::TEN;
use crate::browser::{Browser, with_browser_alone};
use anyhow::{Result, bail, ensure};
use fantoccini::Locator;
use serde_json::Value;
use tests::server::Server;

/// Chromium reports every task of 50 ms or more, those of before the page's own scripts too.
const WATCH: &str = r#"
    window.longTasks = [];
    const watch = new PerformanceObserver(list => {
        for (const { startTime, duration } of list.getEntries()) longTasks.push({ startTime, duration });
    });
    watch.observe({ type: "longtask", buffered: true });
"#;

/// What a watch that works must find.
const DAWDLE: &str = r#"
    const done = arguments[0];
    setTimeout(() => {
        const end = performance.now() + 100;
        while (performance.now() < end);
        const before = longTasks.length;
        const look = () => longTasks.length > before ? done(longTasks.at(-1).duration) : setTimeout(look, 10);
        setTimeout(look);
    });
"#;

/// The browser's clock runs on while others have the processor: with compilers beside it, every other attempt on two cores
/// sees some task grow long, each time another one. One that is long by itself is long in every attempt.
const ATTEMPTS: usize = 5;

pub fn is_never_busy_for_50_ms() -> Result<()> {
    is_never_busy("", "CPU in this page")
}

pub fn is_never_busy_for_50_ms_on_webgpu() -> Result<()> {
    is_never_busy("?engine=webgpu", "WebGPU")
}

fn is_never_busy(query: &'static str, badge: &'static str) -> Result<()> {
    let server = Server::start()?;
    let mut found = Vec::new();
    for _ in 0..ATTEMPTS {
        let (tell, told) = std::sync::mpsc::channel();
        with_browser_alone(&server, |browser| async move {
            browser.prelude(WATCH).await?;
            use_everything(&browser, query, badge).await?;
            let tasks = browser.client.execute("return longTasks", vec![]).await?;
            let dawdled = browser.client.execute_async(DAWDLE, vec![]).await?;
            ensure!(dawdled.as_f64() >= Some(100.0), "a task of 100 ms was seen as one of {dawdled}");
            tell.send(tasks)?;
            Ok(())
        })?;
        let tasks = told.recv()?;
        if tasks == Value::Array(Vec::new()) {
            return Ok(());
        }
        found.push(tasks.to_string());
    }
    bail!("the page's thread was busy: {}", found.join("; "))
}

/// Opening, three photos, what spoke for the answers, the list of a thousand labels, another model.
async fn use_everything(browser: &Browser, query: &str, badge: &str) -> Result<()> {
    browser.visit_with(query).await?;
    for photo in ["cat", "coffee", "rocket"] {
        let view = browser.classify_sample(photo).await?;
        ensure!(view.badge == badge, "{view:?}");
        // From the second photo on, the explanation comes with the answer.
        if photo == "cat" {
            browser.press("explain").await?;
        }
        ensure!(browser.count("heat").await? == 1, "{photo} is not explained");
    }
    browser.client.find(Locator::Css("[data-testid=knowledge] summary")).await?.click().await?;
    let search = browser.client.wait().for_element(Locator::Css("[data-testid=knowledge] input")).await?;
    search.send_keys("tea").await?;
    browser.until("what it knows about tea", |view| view.knowledge.contains(" of 1000")).await?;
    browser.choose_model(TEN).await?;
    browser.until("an answer of the small model", |view| view.things.len() == 10 && !view.ranked.is_empty()).await?;
    browser.press("explain").await?;
    ensure!(browser.count("heat").await? == 0, "the explanation is still there");
    Ok(())
}
