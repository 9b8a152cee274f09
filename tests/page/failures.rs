//! The page reports failures in plain words and remains usable.

use crate::browser::{Browser, Environment};
use anyhow::{Result, ensure};
use tests::workspace;

pub fn reports_damaged_files(environment: &Environment) -> Result<()> {
    environment.with_small_model(|browser| async move {
        browser.open().await?;
        let folder = tempfile::tempdir()?;

        let damaged = folder.path().join("damaged.jpg");
        std::fs::write(&damaged, &std::fs::read(workspace::sample("cat.jpg"))?[..300])?;
        browser.upload(&damaged).await?;
        browser.wait_until("an error about the damaged photo", |view| view.error.contains("damaged")).await?;

        let text = folder.path().join("text.jpg");
        std::fs::write(&text, "no photo at all")?;
        browser.upload(&text).await?;
        browser.wait_until("an error about the text file", |view| view.error.contains("not a photo")).await?;

        let view = browser.classify_sample("cat").await?;
        ensure!(view.ran_in_page() && view.error.is_empty(), "{view:?}");
        Ok(())
    })
}

pub fn rejects_text_files(environment: &Environment) -> Result<()> {
    environment.with_small_model(|browser| async move {
        browser.open().await?;
        let script = r#"
            const data = new DataTransfer();
            data.items.add(new File(["words"], "notes.txt", { type: "text/plain" }));
            document.body.dispatchEvent(new DragEvent("drop", { bubbles: true, dataTransfer: data }));
        "#;
        browser.client.execute(script, vec![]).await?;
        let view = browser.wait_until("a notice", |view| !view.notice.is_empty()).await?;
        ensure!(view.notice.contains("“notes.txt” is not an image file") && view.photo_alt.is_empty(), "{view:?}");
        Ok(())
    })
}

pub fn uses_server_without_workers(environment: &Environment) -> Result<()> {
    environment.with_small_model(|browser| async move {
        browser
            .run_before_page_scripts("window.Worker = class { constructor() { throw new Error('no workers here') } }")
            .await?;
        let view = browser.open().await?;
        ensure!(view.privacy.contains("Your photos are sent there"), "{view:?}");
        check_server_answers(&browser).await
    })
}

pub fn restarts_crashed_worker(environment: &Environment) -> Result<()> {
    environment.with_small_model(|browser| async move {
        let record_worker = r#"
            const OriginalWorker = window.Worker;
            window.Worker = class extends OriginalWorker {
                constructor(...rest) { super(...rest); window.lastWorker = this; }
            };
        "#;
        browser.run_before_page_scripts(record_worker).await?;
        browser.open().await?;
        let crash = "lastWorker.terminate(); lastWorker.dispatchEvent(new ErrorEvent('error', { message: 'crash' }))";
        browser.client.execute(crash, vec![]).await?;
        check_server_answers(&browser).await?;
        browser.wait_until("another worker", |view| view.privacy.contains("stay on this device")).await?;
        let view = browser.classify_sample("coffee").await?;
        ensure!(view.ran_in_page(), "{view:?}");
        Ok(())
    })
}

pub fn rejects_weights_with_wrong_hash(environment: &Environment) -> Result<()> {
    environment.with_small_model(|browser| async move {
        let change_hashes = r#"
            const originalFetch = window.fetch;
            window.fetch = async (url, ...rest) => {
                const response = await originalFetch(url, ...rest);
                if (url !== "models") return response;
                const list = await response.json();
                list.models.forEach(model => model.sha256 = "0".repeat(64));
                return Response.json(list);
            };
        "#;
        browser.run_before_page_scripts(change_hashes).await?;
        let view = browser.open().await?;
        ensure!(view.error.contains("do not match the server's list of models"), "{view:?}");
        check_server_answers(&browser).await
    })
}

pub fn downloads_damaged_cached_weights_again(environment: &Environment) -> Result<()> {
    environment.with_small_model(|browser| async move {
        browser.open().await?;
        let damage = r#"
            const done = arguments[0];
            (async () => {
                const cache = await caches.open("shortcut-weights");
                const requests = await cache.keys();
                for (const request of requests) await cache.put(request, new Response("damaged"));
                done(requests.length);
            })();
        "#;
        let cached = browser.client.execute_async(damage, vec![]).await?;
        ensure!(cached == 1, "the cache contains {cached} files instead of 1");
        browser.open().await?;
        let view = browser.classify_sample("cat").await?;
        ensure!(view.ran_in_page(), "{view:?}");
        Ok(())
    })
}

/// Classifies a sample photo and checks that the server has answered.
async fn check_server_answers(browser: &Browser) -> Result<()> {
    let view = browser.classify_sample("cat").await?;
    ensure!(view.ran_on_server(), "{view:?}");
    Ok(())
}
