//! What goes wrong is said in words, and the page stays alive.

use crate::browser::{Browser, with_small_model};
use anyhow::{Result, ensure};
use tests::workspace;

pub fn broken_file() -> Result<()> {
    with_small_model(|browser| async move {
        browser.visit().await?;
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
        ensure!(view.ran_in_page() && view.error.is_empty(), "{view:?}");
        Ok(())
    })
}

pub fn text_dropped() -> Result<()> {
    with_small_model(|browser| async move {
        browser.visit().await?;
        let script = r#"
            const data = new DataTransfer();
            data.items.add(new File(["words"], "notes.txt", { type: "text/plain" }));
            document.body.dispatchEvent(new DragEvent("drop", { bubbles: true, dataTransfer: data }));
        "#;
        browser.client.execute(script, vec![]).await?;
        let view = browser.until("something is said", |view| !view.notice.is_empty()).await?;
        ensure!(view.notice.contains("“notes.txt” is not a photo") && view.picture.is_empty(), "{view:?}");
        Ok(())
    })
}

pub fn no_workers() -> Result<()> {
    with_small_model(|browser| async move {
        browser.prelude("window.Worker = class { constructor() { throw new Error('no workers here') } }").await?;
        let view = browser.visit().await?;
        ensure!(view.privacy.contains("your photos are sent there"), "{view:?}");
        answered_by_server(&browser).await
    })
}

pub fn lost_worker() -> Result<()> {
    with_small_model(|browser| async move {
        let remember = r#"
            const Real = window.Worker;
            window.Worker = class extends Real {
                constructor(...rest) { super(...rest); window.lastWorker = this; }
            };
        "#;
        browser.prelude(remember).await?;
        browser.visit().await?;
        let lose = "lastWorker.terminate(); lastWorker.dispatchEvent(new ErrorEvent('error', { message: 'lost' }))";
        browser.client.execute(lose, vec![]).await?;
        answered_by_server(&browser).await?;
        browser.until("another worker is ready", |view| view.privacy.contains("stay on this device")).await?;
        let view = browser.classify_sample("coffee").await?;
        ensure!(view.ran_in_page(), "{view:?}");
        Ok(())
    })
}

pub fn wrong_weights() -> Result<()> {
    with_small_model(|browser| async move {
        let lie = r#"
            const honest = window.fetch;
            window.fetch = async (address, ...rest) => {
                const response = await honest(address, ...rest);
                if (address !== "models") return response;
                const list = await response.json();
                list.models.forEach(model => model.sha256 = "0".repeat(64));
                return Response.json(list);
            };
        "#;
        browser.prelude(lie).await?;
        let view = browser.visit().await?;
        ensure!(view.error.contains("not those that the server announced"), "{view:?}");
        answered_by_server(&browser).await
    })
}

pub fn damaged_cache() -> Result<()> {
    with_small_model(|browser| async move {
        browser.visit().await?;
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
        browser.visit().await?;
        let view = browser.classify_sample("cat").await?;
        ensure!(view.ran_in_page(), "{view:?}");
        Ok(())
    })
}

async fn answered_by_server(browser: &Browser) -> Result<()> {
    let view = browser.classify_sample("cat").await?;
    ensure!(view.ran_on_server(), "{view:?}");
    Ok(())
}
