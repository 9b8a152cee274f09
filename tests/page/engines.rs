//! The selection of the worker's engine, on the adapter that Chromium emulates and on adapters that pretend to be GPUs.

use crate::browser::{Browser, Environment};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use std::time::{Duration, Instant};
use tests::data;

const TIMEOUT: Duration = Duration::from_secs(120);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Runs in every worker before the worker's module is loaded, since scripts in the page have no access to a worker. The
/// script reports the module's use of WebGPU and its console output to the page, and lets the page destroy the device
/// that was opened last.
const OBSERVE: &str = r#"
    const messages = new BroadcastChannel("messages");
    for (const level of ["info", "warn", "error"]) {
        const log = console[level].bind(console);
        console[level] = (...words) => { log(...words); messages.postMessage(words.join(" ")); };
    }
    let device;
    const requestDevice = GPUAdapter.prototype.requestDevice;
    GPUAdapter.prototype.requestDevice = async function (...rest) {
        messages.postMessage("device opened");
        return device = await requestDevice.apply(this, rest);
    };
    const { createShaderModule } = GPUDevice.prototype;
    GPUDevice.prototype.createShaderModule = function (...rest) {
        if (rest[0].code.includes("var<workgroup>")) messages.postMessage("kernel with workgroup memory");
        return createShaderModule.apply(this, rest);
    };
    new BroadcastChannel("commands").onmessage = () => { device.destroy(); messages.postMessage("device destroyed"); };
"#;

/// Makes the adapter pretend to be a GPU.
const POSE_AS_GPU: &str = r#"
    for (const name of ["vendor", "architecture", "device", "description"]) {
        Object.defineProperty(GPUAdapterInfo.prototype, name, { get: () => "unknown" });
    }
    Object.defineProperty(GPUAdapterInfo.prototype, "isFallbackAdapter", { get: () => false });
"#;

/// Makes runs on the GPU appear to take no time, by stopping the clock from the submission of work until its result can
/// be read.
const INSTANT_GPU: &str = r#"
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

/// Makes the GPU compute wrong logits, by negating them. Zeros remain, such as the flag after the logits that reports
/// values too large for f16.
const NEGATED_LOGITS: &str = r#"
    const { getMappedRange } = GPUBuffer.prototype;
    GPUBuffer.prototype.getMappedRange = function (...rest) {
        const range = getMappedRange.apply(this, rest);
        new Float32Array(range).forEach((value, index, values) => values[index] = 0 - value);
        return range;
    };
"#;

/// On request, reports the size of the module's memory and the number of GPU buffers.
const MEASURE_MEMORY: &str = r#"
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
        const result = await instantiateStreaming(...rest);
        const { memory } = result.instance.exports;
        new BroadcastChannel("measure").onmessage = () => {
            messages.postMessage(`${memory.buffer.byteLength} bytes of memory, ${buffers.size} buffers`);
        };
        return result;
    };
"#;

pub fn auto_never_opens_a_software_adapter(environment: &Environment) -> Result<()> {
    environment.with_small_model(|browser| async move {
        browser.patch_workers(&[]).await?;
        browser.open().await?;
        browser.wait_for_message("WebGPU is not used: adapter").await?;
        let view = browser.classify_sample("cat").await?;
        ensure!(view.badge == "CPU in this page", "{view:?}");
        ensure!(!browser.has_message("device opened").await?, "a device was opened on a software adapter");
        Ok(())
    })
}

pub fn auto_keeps_and_records_a_faster_cpu(environment: &Environment) -> Result<()> {
    environment.with_small_model(|browser| async move {
        browser.patch_workers(&[POSE_AS_GPU]).await?;
        browser.open().await?;
        browser.wait_for_message("device opened").await?;
        browser.wait_for_message("ms per photo, the CPU").await?;
        let view = browser.classify_sample("cat").await?;
        ensure!(view.badge == "CPU in this page", "{view:?}");

        browser.open().await?;
        browser.wait_for_message("the CPU was selected on an earlier visit").await?;
        ensure!(!browser.has_message("device opened").await?, "a device was opened although the CPU is recorded");
        Ok(())
    })
}

pub fn auto_rejects_wrong_logits(environment: &Environment) -> Result<()> {
    environment.with_small_model(|browser| async move {
        browser.patch_workers(&[POSE_AS_GPU, INSTANT_GPU, NEGATED_LOGITS]).await?;
        browser.open().await?;
        browser.wait_for_message("logits differ from the CPU's").await?;
        let view = browser.classify_sample("cat").await?;
        ensure!(view.badge == "CPU in this page", "{view:?}");
        Ok(())
    })
}

pub fn auto_switches_to_a_faster_gpu_and_back_on_loss(environment: &Environment) -> Result<()> {
    environment.with_small_model(|browser| async move {
        browser.patch_workers(&[POSE_AS_GPU, INSTANT_GPU]).await?;
        browser.open().await?;
        let first = browser.classify_sample("cat").await?;
        ensure!(first.badge == "CPU in this page", "{first:?}");
        browser.wait_for_message("switched to WebGPU").await?;
        for photo in ["coffee", "rocket"] {
            let view = browser.classify_sample(photo).await?;
            ensure!(view.badge == "WebGPU", "{view:?}");
            view.check_agreement_on_sample(&browser, photo).await?;
        }
        browser.lose_device("CPU in this page", "WebGPU failed, switched to the CPU").await
    })
}

pub fn selected_webgpu_recovers_from_a_lost_device(environment: &Environment) -> Result<()> {
    environment.with_small_model(|browser| async move {
        browser.patch_workers(&[]).await?;
        browser.open_with_query("?engine=webgpu").await?;
        let view = browser.classify_sample("cat").await?;
        ensure!(view.badge == "WebGPU", "{view:?}");
        browser.lose_device("WebGPU", "switched to webgpu").await?;
        browser.lose_device("CPU in this page", "switched to cpu").await
    })
}

/// Tiled kernels are selected on an NVIDIA adapter. The other tests run direct kernels, since their adapters are not of
/// a known vendor.
pub fn runs_kernels_with_workgroup_memory(environment: &Environment) -> Result<()> {
    environment.with_small_model(|browser| async move {
        browser.patch_workers(&[&POSE_AS_GPU.replace(r#""unknown""#, r#""nvidia""#)]).await?;
        browser.open_with_query("?engine=webgpu").await?;
        let view = browser.classify_sample("cat").await?;
        ensure!(view.badge == "WebGPU", "{view:?}");
        ensure!(browser.has_message("kernel with workgroup memory").await?, "no such kernel was compiled");
        view.check_agreement_on_sample(&browser, "cat").await
    })
}

pub fn photos_do_not_leak_memory(environment: &Environment) -> Result<()> {
    check_memory(environment, "?engine=cpu", "CPU in this page", &["cat", "coffee", "rocket", "palace", "flower"])
}

pub fn photos_do_not_leak_memory_on_webgpu(environment: &Environment) -> Result<()> {
    // Few photos, since the adapter that Chromium emulates is slow.
    check_memory(environment, "?engine=webgpu", "WebGPU", &["cat", "palace"])
}

/// Checks that the worker uses the same memory after each of several rounds of photos.
fn check_memory(
    environment: &Environment,
    query: &'static str,
    badge: &'static str,
    photos: &'static [&'static str],
) -> Result<()> {
    environment.with_small_model(move |browser| async move {
        browser.patch_workers(&[MEASURE_MEMORY]).await?;
        browser.open_with_query(query).await?;
        let mut measurements = Vec::new();
        for _ in 0..4 {
            for photo in photos {
                let view = browser.classify_sample(photo).await?;
                ensure!(view.badge == badge, "{view:?}");
            }
            measurements.push(browser.measure_memory(measurements.len() + 1).await?);
        }
        ensure!(
            measurements.iter().all(|memory| memory == &measurements[0]),
            "the memory is not constant: {measurements:?}"
        );
        Ok(())
    })
}

/// Compares predictions for validation photos of several classes with those of the server, and with those of PyTorch, which used
/// the weights before they were quantised to int8.
pub fn selected_webgpu_agrees_with_pytorch(environment: &Environment) -> Result<()> {
    #[derive(Deserialize)]
    struct Reference {
        photos: Vec<Expected>,
    }
    #[derive(Deserialize)]
    struct Expected {
        file: String,
        predicted: usize,
    }
    const PHOTOS: usize = 8;
    let reference: Reference = data::read_json("reference/resnet18-imagenette.json")?;
    environment.with_small_model(|browser| async move {
        browser.open_with_query("?engine=webgpu").await?;
        for Expected { file, predicted } in reference.photos.iter().step_by(reference.photos.len() / PHOTOS) {
            // Browsers reject file paths that contain `..`.
            let path = data::folder().join("imagenette-224-val").join(file).canonicalize()?;
            browser.upload(&path).await?;
            let name = path.file_name().and_then(|name| name.to_str()).context("the file name is not UTF-8")?;
            let view = browser.answer_for(name).await?;
            ensure!(view.badge == "WebGPU", "{view:?}");
            ensure!(view.ranked[0].index == *predicted, "{file}: PyTorch predicts class {predicted}: {view:?}");
            view.check_agreement(&browser, &path).await?;
        }
        Ok(())
    })
}

impl Browser {
    /// Runs [`OBSERVE`] and these scripts in every worker before the worker's module, and collects the messages of all
    /// workers in `window.workerMessages`.
    async fn patch_workers(&self, scripts: &[&str]) -> Result<()> {
        let scripts = Value::from([&[OBSERVE], scripts].concat().concat());
        let page_script = format!(
            r#"
            window.workerMessages = [];
            new BroadcastChannel("messages").onmessage = ({{ data }}) => workerMessages.push(data);
            const OriginalWorker = window.Worker;
            window.Worker = class extends OriginalWorker {{
                constructor(url, options) {{
                    const module = JSON.stringify(new URL(url, location.origin).href);
                    const text = {scripts} + `await import(${{module}});`;
                    super(URL.createObjectURL(new Blob([text], {{ type: "text/javascript" }})), options);
                }}
            }};
            "#
        );
        self.run_before_page_scripts(&page_script).await
    }

    /// Returns whether a worker of the open page has sent a message that contains `text`.
    async fn has_message(&self, text: &str) -> Result<bool> {
        let script = "return window.workerMessages.some(message => message.includes(arguments[0]))";
        Ok(self.client.execute(script, vec![text.into()]).await? == true)
    }

    /// Waits until a worker has sent a message that contains `text`.
    async fn wait_for_message(&self, text: &str) -> Result<()> {
        let start = Instant::now();
        while !self.has_message(text).await? {
            let messages = self.client.execute("return window.workerMessages", vec![]).await?;
            ensure!(start.elapsed() < TIMEOUT, "timed out after {TIMEOUT:?} waiting for {text:?} in {messages}");
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Returns the worker's message about the size of its memory and its number of GPU buffers. `count` is the number
    /// of measurements so far, including this one.
    async fn measure_memory(&self, count: usize) -> Result<String> {
        let script = r#"
            const [count, done] = arguments;
            new BroadcastChannel("measure").postMessage("");
            const poll = () => {
                const measurements = window.workerMessages.filter(message => message.includes("bytes of memory"));
                if (measurements.length === count) done(measurements.at(-1)); else setTimeout(poll, 10);
            };
            poll();
        "#;
        let memory = self.client.execute_async(script, vec![count.into()]).await?;
        Ok(memory.as_str().context("the measurement is not a string")?.to_owned())
    }

    /// Destroys the worker's WebGPU device. Checks that the next photos are answered by the engine with the given
    /// badge, that a new device was opened if that is WebGPU, and that the worker logs `message`.
    async fn lose_device(&self, badge: &str, message: &str) -> Result<()> {
        let script = "window.workerMessages = []; new BroadcastChannel('commands').postMessage('destroy')";
        self.client.execute(script, vec![]).await?;
        self.wait_for_message("device destroyed").await?;
        for photo in ["palace", "flower"] {
            let view = self.classify_sample(photo).await?;
            ensure!(view.badge == badge && view.error.is_empty(), "{view:?}");
            view.check_agreement_on_sample(self, photo).await?;
        }
        let opened = self.has_message("device opened").await?;
        ensure!(opened == (badge == "WebGPU"), "badge {badge:?}, new device opened: {opened}");
        self.wait_for_message(message).await
    }
}
