//! The page's main thread never blocks for so long that a visitor would notice.

use crate::browser::{Browser, Environment};
use anyhow::{Result, bail, ensure};
use fantoccini::Locator;
use serde_json::Value;
use tests::workspace::SMALL_MODEL;

/// Records the tasks of 50 ms or more, which Chromium reports, including those that ran before the page's own scripts.
const OBSERVE_LONG_TASKS: &str = r#"
    window.longTasks = [];
    const observer = new PerformanceObserver(list => {
        for (const { startTime, duration } of list.getEntries()) longTasks.push({ startTime, duration });
    });
    observer.observe({ type: "longtask", buffered: true });
"#;

/// Blocks the main thread for 100 ms and returns the recorded duration, to check that long tasks are recorded.
const BLOCK_MAIN_THREAD: &str = r#"
    const done = arguments[0];
    setTimeout(() => {
        const end = performance.now() + 100;
        while (performance.now() < end);
        const before = longTasks.length;
        const poll = () => longTasks.length > before ? done(longTasks.at(-1).duration) : setTimeout(poll, 10);
        setTimeout(poll);
    });
"#;

/// Maximum number of attempts. Durations include the time in which other processes use the CPU: on two cores with
/// compilers running, every other attempt records some long task, a different one each time. A task that really is long
/// is long in every attempt.
const MAX_ATTEMPTS: usize = 5;

pub fn has_no_long_tasks(environment: &Environment) -> Result<()> {
    check_long_tasks(environment, "", "CPU in this page")
}

pub fn has_no_long_tasks_on_webgpu(environment: &Environment) -> Result<()> {
    check_long_tasks(environment, "?engine=webgpu", "WebGPU")
}

fn check_long_tasks(environment: &Environment, query: &'static str, badge: &'static str) -> Result<()> {
    let mut long_tasks = Vec::new();
    for _ in 0..MAX_ATTEMPTS {
        let (sender, receiver) = std::sync::mpsc::channel();
        environment.with_exclusive_browser(|browser| async move {
            browser.run_before_page_scripts(OBSERVE_LONG_TASKS).await?;
            use_everything(&browser, query, badge).await?;
            let tasks = browser.client.execute("return longTasks", vec![]).await?;
            let blocked = browser.client.execute_async(BLOCK_MAIN_THREAD, vec![]).await?;
            ensure!(blocked.as_f64() >= Some(100.0), "a task of 100 ms was recorded with a duration of {blocked} ms");
            sender.send(tasks)?;
            Ok(())
        })?;
        let tasks = receiver.recv()?;
        if tasks == Value::Array(Vec::new()) {
            return Ok(());
        }
        long_tasks.push(tasks.to_string());
    }
    bail!("every attempt recorded long tasks: {}", long_tasks.join("; "))
}

/// Opens the page, classifies two photos with heat maps, searches the list of a thousand classes, and switches models.
/// Checks that the engine with the given badge gives all answers, and that they agree with those of the server.
async fn use_everything(browser: &Browser, query: &str, badge: &str) -> Result<()> {
    browser.open_with_query(query).await?;
    for photo in ["cat", "coffee"] {
        let view = browser.classify_sample(photo).await?;
        ensure!(view.badge == badge, "{view:?}");
        view.check_agreement_on_sample(browser, photo).await?;
        // The heat map remains switched on for the following photo.
        if photo == "cat" {
            browser.press("explain").await?;
        }
        ensure!(browser.count("heatmap").await? == 1, "no heat map is shown for {photo}");
    }
    browser.client.find(Locator::Css("[data-testid=class-list] summary")).await?.click().await?;
    let search = browser.client.wait().for_element(Locator::Css("[data-testid=class-list] input")).await?;
    search.send_keys("tea").await?;
    browser.wait_until("the classes that match", |view| view.class_list.contains(" of 1000")).await?;
    browser.select_model(SMALL_MODEL).await?;
    let view = browser
        .wait_until("an answer of the small model", |view| view.class_labels.len() == 10 && !view.ranked.is_empty())
        .await?;
    ensure!(view.badge == badge, "{view:?}");
    view.check_agreement_on_sample(browser, "coffee").await?;
    browser.press("explain").await?;
    ensure!(browser.count("heatmap").await? == 0, "the heat map is still shown");
    Ok(())
}
