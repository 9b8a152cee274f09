//! Which of the worker's engines answers, on adapters that are what Chromium emulates, or pose as something better.

use crate::browser::{Browser, with_small_model};
use crate::{TEN, rest};
use anyhow::{Context, Result, ensure};
use model::prediction::Prediction;
use serde::Deserialize;
use serde_json::Value;
use std::time::{Duration, Instant};
use tests::agreement::assert_agreement;
use tests::data;

const PATIENCE: Duration = Duration::from_secs(120);
const BETWEEN_QUESTIONS: Duration = Duration::from_millis(50);

/// What every worker does before the page's own module is loaded: it tells the page what the module asks of WebGPU and says
/// on the console, and lets the page destroy the device that was opened last. The page's scripts cannot reach into a worker.
const EAVESDROP: &str = r#"
    const told = new BroadcastChannel("told");
    for (const level of ["info", "warn", "error"]) {
        const say = console[level].bind(console);
        console[level] = (...words) => { say(...words); told.postMessage(words.join(" ")); };
    }
    let device;
    const requestDevice = GPUAdapter.prototype.requestDevice;
    GPUAdapter.prototype.requestDevice = async function (...rest) {
        told.postMessage("a device is opened");
        return device = await requestDevice.apply(this, rest);
    };
    const { createShaderModule } = GPUDevice.prototype;
    GPUDevice.prototype.createShaderModule = function (...rest) {
        if (rest[0].code.includes("var<workgroup>")) told.postMessage("a kernel with workgroup memory");
        return createShaderModule.apply(this, rest);
    };
    new BroadcastChannel("order").onmessage = () => { device.destroy(); told.postMessage("destroyed"); };
"#;

/// The adapter claims to be a GPU.
const POSING: &str = r#"
    for (const name of ["vendor", "architecture", "device", "description"]) {
        Object.defineProperty(GPUAdapterInfo.prototype, name, { get: () => "posing" });
    }
    Object.defineProperty(GPUAdapterInfo.prototype, "isFallbackAdapter", { get: () => false });
"#;

/// A GPU that takes no time: the clock stands still from when work is submitted until its outcome can be read.
const SWIFT: &str = r#"
    const clock = performance.now.bind(performance);
    let hidden = 0, since = null;
    performance.now = () => (since ?? clock()) - hidden;
    const { submit } = GPUQueue.prototype, { mapAsync } = GPUBuffer.prototype;
    GPUQueue.prototype.submit = function (...rest) { since ??= clock(); return submit.apply(this, rest); };
    GPUBuffer.prototype.mapAsync = function (...rest) {
        const mapped = mapAsync.apply(this, rest);
        mapped.finally(() => { hidden += clock() - (since ?? clock()); since = null; });
        return mapped;
    };
"#;

/// A GPU whose kernels compute nonsense: each logit with the other sign. What is zero stays so, such as the word behind the
/// logits that tells of values too large for f16.
const WRONG: &str = r#"
    const { getMappedRange } = GPUBuffer.prototype;
    GPUBuffer.prototype.getMappedRange = function (...rest) {
        const range = getMappedRange.apply(this, rest);
        new Float32Array(range).forEach((value, index, values) => values[index] = 0 - value);
        return range;
    };
"#;

/// The module's memory can be asked for, and how many buffers a GPU holds.
const MEASURE: &str = r#"
    const buffers = new Set();
    const { createBuffer } = GPUDevice.prototype, { destroy } = GPUBuffer.prototype;
    GPUDevice.prototype.createBuffer = function (...rest) {
        const buffer = createBuffer.apply(this, rest);
        buffers.add(buffer);
        return buffer;
    };
    GPUBuffer.prototype.destroy = function () { buffers.delete(this); return destroy.call(this); };
    const { instantiateStreaming } = WebAssembly;
    WebAssembly.instantiateStreaming = async (...rest) => {
        const made = await instantiateStreaming(...rest);
        const { memory } = made.instance.exports;
        new BroadcastChannel("measure").onmessage = () => {
            told.postMessage(`${memory.buffer.byteLength} bytes of memory, ${buffers.size} buffers`);
        };
        return made;
    };
"#;

pub fn auto_leaves_software_alone() -> Result<()> {
    with_small_model(|browser| async move {
        browser.patch_workers(&[]).await?;
        browser.visit().await?;
        browser.hear("WebGPU is not used: the adapter").await?;
        let view = browser.classify_sample("cat").await?;
        ensure!(view.badge == "CPU in this page", "{view:?}");
        ensure!(!browser.heard("a device is opened").await?, "a device was opened on a software adapter");
        Ok(())
    })
}

pub fn auto_stays_on_a_faster_cpu_and_remembers() -> Result<()> {
    with_small_model(|browser| async move {
        browser.patch_workers(&[POSING]).await?;
        browser.visit().await?;
        browser.hear("a device is opened").await?;
        browser.hear("ms for a photo, the CPU").await?;
        let view = browser.classify_sample("cat").await?;
        ensure!(view.badge == "CPU in this page", "{view:?}");

        browser.visit().await?;
        browser.hear("chosen on an earlier visit").await?;
        ensure!(!browser.heard("a device is opened").await?, "a device was opened in spite of the verdict");
        Ok(())
    })
}

pub fn auto_refuses_a_gpu_that_computes_nonsense() -> Result<()> {
    with_small_model(|browser| async move {
        browser.patch_workers(&[POSING, SWIFT, WRONG]).await?;
        browser.visit().await?;
        browser.hear("its logits are not those of the CPU").await?;
        let view = browser.classify_sample("cat").await?;
        ensure!(view.badge == "CPU in this page", "{view:?}");
        Ok(())
    })
}

pub fn auto_goes_over_to_a_faster_gpu_and_back_when_it_is_lost() -> Result<()> {
    with_small_model(|browser| async move {
        browser.patch_workers(&[POSING, SWIFT]).await?;
        browser.visit().await?;
        let first = browser.classify_sample("cat").await?;
        ensure!(first.badge == "CPU in this page", "{first:?}");
        browser.hear("WebGPU answers from now on").await?;
        for photo in ["coffee", "rocket"] {
            let view = browser.classify_sample(photo).await?;
            ensure!(view.badge == "WebGPU", "{view:?}");
            let expected = rest(&browser, TEN, photo).await?;
            assert_agreement(&Prediction { predictions: view.ranked, ..expected.clone() }, &expected)?;
        }
        browser.lose_the_device("CPU in this page", "WebGPU is not used any more").await
    })
}

pub fn a_gpu_by_name_that_is_lost_is_replaced() -> Result<()> {
    with_small_model(|browser| async move {
        browser.patch_workers(&[]).await?;
        browser.visit_with("?engine=webgpu").await?;
        let view = browser.classify_sample("cat").await?;
        ensure!(view.badge == "WebGPU", "{view:?}");
        browser.lose_the_device("WebGPU", "webgpu answers now").await?;
        browser.lose_the_device("CPU in this page", "cpu answers now").await
    })
}

/// Those that read through caches are what other tests here run, which pose as nothing that is known.
pub fn kernels_with_workgroup_memory_are_a_browsers_too() -> Result<()> {
    with_small_model(|browser| async move {
        browser.patch_workers(&[&POSING.replace(r#""posing""#, r#""nvidia""#)]).await?;
        browser.visit_with("?engine=webgpu").await?;
        let view = browser.classify_sample("cat").await?;
        ensure!(view.badge == "WebGPU", "{view:?}");
        ensure!(browser.heard("a kernel with workgroup memory").await?, "other kernels were compiled");
        let expected = rest(&browser, TEN, "cat").await?;
        assert_agreement(&Prediction { predictions: view.ranked, ..expected.clone() }, &expected)
    })
}

pub fn photos_leave_no_memory_behind() -> Result<()> {
    leave_no_memory_behind("?engine=cpu", "CPU in this page")
}

pub fn photos_leave_no_memory_behind_on_webgpu() -> Result<()> {
    leave_no_memory_behind("?engine=webgpu", "WebGPU")
}

fn leave_no_memory_behind(query: &'static str, badge: &'static str) -> Result<()> {
    with_small_model(move |browser| async move {
        browser.patch_workers(&[MEASURE]).await?;
        browser.visit_with(query).await?;
        let mut measured = Vec::new();
        for _ in 0..4 {
            for photo in ["cat", "coffee", "rocket", "palace", "flower"] {
                let view = browser.classify_sample(photo).await?;
                ensure!(view.badge == badge, "{view:?}");
            }
            measured.push(browser.measure(measured.len() + 1).await?);
        }
        ensure!(measured.iter().all(|memory| memory == &measured[0]), "{measured:?}");
        Ok(())
    })
}

/// On the first of the validation photos, what PyTorch says with the weights before they became int8.
pub fn a_gpu_by_name_predicts_as_pytorch() -> Result<()> {
    #[derive(Deserialize)]
    struct Reference {
        photos: Vec<Expected>,
    }
    #[derive(Deserialize)]
    struct Expected {
        file: String,
        predicted: usize,
    }
    const PHOTOS: usize = 32;
    let reference: Reference = data::read_json("reference/resnet18-imagenette.json")?;
    with_small_model(|browser| async move {
        browser.visit_with("?engine=webgpu").await?;
        let mut equal = 0;
        for Expected { file, predicted } in &reference.photos[..PHOTOS] {
            // A browser takes no path with dots in it.
            let path = data::folder().join("imagenette-224-val").join(file).canonicalize()?;
            browser.upload(&path).await?;
            let name = path.file_name().and_then(|name| name.to_str()).context("a name in UTF-8")?;
            let view = browser.answer_for(name).await?;
            ensure!(view.badge == "WebGPU", "{view:?}");
            equal += usize::from(view.ranked[0].index == *predicted);
        }
        ensure!(equal >= PHOTOS - 1, "only {equal} of {PHOTOS} predictions are PyTorch's");
        Ok(())
    })
}

impl Browser {
    /// Has every worker run these scripts before the page's module, and the page keep what workers tell in `told`.
    async fn patch_workers(&self, scripts: &[&str]) -> Result<()> {
        let scripts = Value::from([&[EAVESDROP], scripts].concat().concat());
        let prelude = format!(
            r#"
            window.told = [];
            new BroadcastChannel("told").onmessage = ({{ data }}) => told.push(data);
            const Real = window.Worker;
            window.Worker = class extends Real {{
                constructor(address, options) {{
                    const module = JSON.stringify(new URL(address, location.origin).href);
                    const text = {scripts} + `await import(${{module}});`;
                    super(URL.createObjectURL(new Blob([text], {{ type: "text/javascript" }})), options);
                }}
            }};
            "#
        );
        self.prelude(&prelude).await
    }

    /// Whether a worker of this visit has told anything with these words in it.
    async fn heard(&self, words: &str) -> Result<bool> {
        let found = "return window.told.some(told => told.includes(arguments[0]))";
        Ok(self.client.execute(found, vec![words.into()]).await? == true)
    }

    async fn hear(&self, words: &str) -> Result<()> {
        let start = Instant::now();
        while !self.heard(words).await? {
            let told = self.client.execute("return window.told", vec![]).await?;
            ensure!(start.elapsed() < PATIENCE, "waited {PATIENCE:?} for {words:?}; the worker has told {told}");
            tokio::time::sleep(BETWEEN_QUESTIONS).await;
        }
        Ok(())
    }

    /// How much memory the worker's module has, and how many buffers the GPU, in words, when that is asked for the `count`-th time.
    async fn measure(&self, count: usize) -> Result<String> {
        let measure = r#"
            const [count, done] = arguments;
            new BroadcastChannel("measure").postMessage("");
            const look = () => {
                const found = window.told.filter(told => told.includes("bytes of memory"));
                if (found.length === count) done(found.at(-1)); else setTimeout(look, 10);
            };
            look();
        "#;
        let memory = self.client.execute_async(measure, vec![count.into()]).await?;
        Ok(memory.as_str().context("no measurement")?.to_owned())
    }

    /// Destroys the worker's device; the next photos are answered there, by a device that was opened since if it is WebGPU, and
    /// the worker says why.
    async fn lose_the_device(&self, badge: &str, words: &str) -> Result<()> {
        let order = "window.told = []; new BroadcastChannel('order').postMessage('destroy')";
        self.client.execute(order, vec![]).await?;
        self.hear("destroyed").await?;
        for photo in ["palace", "flower"] {
            let view = self.classify_sample(photo).await?;
            ensure!(view.badge == badge && view.error.is_empty(), "{view:?}");
            let expected = rest(self, TEN, photo).await?;
            assert_agreement(&Prediction { predictions: view.ranked, ..expected.clone() }, &expected)?;
        }
        let opened = self.heard("a device is opened").await?;
        ensure!(opened == (badge == "WebGPU"), "the answers are of {badge:?}, and a device was opened: {opened}");
        self.hear(words).await
    }
}
