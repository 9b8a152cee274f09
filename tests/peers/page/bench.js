// Measures all engines in one page, each in its own worker. The driver (in_browser.py) calls load() and time() with an
// engine's name, one call at a time.

// As in native measurements: untimed warm-up runs take this fraction of the time, at least one run; a median needs at
// least this number of timed runs.
const WARM_UP = 0.2;
const MIN_RUNS = 3;
const SIDE = 224;
const MARGIN = 16;

const fetchBytes = async (url) => (await fetch(url)).arrayBuffer();

// The image that all engines get, as u8 RGB [224, 224, 3], and normalised as f32 [3, 224, 224].
const pixels = new Uint8Array(await fetchBytes("/models/pixels-b1.u8"));
const normalised = new Float32Array(await fetchBytes("/models/input.f32")).slice(0, 3 * SIDE * SIDE);

// Returns the image with a margin, as RGBA. Shortcut's worker resizes photos to 256x256 and crops the centre; with the
// margin, the crop is exactly the image.
function imageWithMargin() {
  const side = SIDE + 2 * MARGIN;
  const rgba = new Uint8Array(side * side * 4).fill(255);
  for (let y = 0; y < SIDE; y++) {
    for (let x = 0; x < SIDE; x++) {
      const source = (y * SIDE + x) * 3;
      rgba.set(pixels.subarray(source, source + 3), ((y + MARGIN) * side + x + MARGIN) * 4);
    }
  }
  return { width: side, height: side, rgba: rgba.buffer };
}

// Starts a worker. Returns functions that wait for its next reply, and that send a request and wait for the reply.
function startWorker(url) {
  const worker = new Worker(url, { type: "module" });
  let resolveReply;
  worker.onmessage = ({ data }) => data.Progress || resolveReply(data);
  worker.onerror = (event) => resolveReply({ error: event.message || `${url} cannot be loaded` });
  const nextReply = () => new Promise((resolve) => (resolveReply = resolve));
  const request = async (message, transfers = []) => {
    const pending = nextReply();
    worker.postMessage(message, transfers);
    const reply = await pending;
    const error = reply.error ?? reply.Failure?.error.message;
    if (error) throw new Error(error);
    return reply;
  };
  return { nextReply, request };
}

// Sends the messages of web/worker/src/message.rs. Fails if another device than `backend` answers, since a worker
// without WebGPU answers with its CPU engine.
const shortcut = (folder, engine, backend) => async ({ network, bytes, sha256, classes }, onLoaded) => {
  const worker = startWorker(`/${folder}/worker_loader.js`);
  const listening = await worker.nextReply();
  if (listening.error) throw new Error(listening.error);
  const url = new URL(`/models/${network}.safetensors`, location).href;
  await worker.request({ Load: { weights: { name: network, url, sha256, bytes }, engine } });
  onLoaded();
  const run = async () => {
    const photo = { Pixels: imageWithMargin() };
    const reply = await worker.request({ Classify: { id: 0, photo, top_k: classes } }, [photo.Pixels.rgba]);
    const { prediction } = reply.Prediction;
    if (prediction.backend !== backend) throw new Error(`answered by ${prediction.backend} instead of ${backend}`);
    return prediction;
  };
  // Logarithms of probabilities equal the logits up to a constant.
  const logits = new Array(classes);
  for (const { index, probability } of (await run()).predictions) logits[index] = Math.log(probability);
  return { logits, run: async () => (await run()).timing_ms.inference };
};

const onnxruntime = (provider) => async ({ network }, onLoaded) => {
  const worker = startWorker(`ort_worker.js?provider=${provider}`);
  const model = await fetchBytes(`/models/${network}-b1.onnx`);
  await worker.request({ load: { model, image: normalised } }, [model]);
  onLoaded();
  const run = () => worker.request({ run: {} });
  return { logits: Array.from((await run()).logits), run: async () => (await run()).ms };
};

const factories = {
  shortcut: shortcut("dist", "Cpu", "cpu"),
  "onnxruntime-web": onnxruntime("wasm"),
  "shortcut-webgpu": shortcut("dist", "WebGpu", "webgpu"),
  "onnxruntime-web-webgpu": onnxruntime("webgpu"),
  "burn-webgpu": shortcut("burn", "WebGpu", "wgpu"),
};
const engines = {};

// Creates an engine. Returns its first logits, and the milliseconds from the creation of its worker until it was
// loaded and until it returned these logits.
window.load = async (name, settings) => {
  const start = performance.now();
  let loaded;
  engines[name] = await factories[name](settings, () => (loaded = performance.now() - start));
  return { logits: engines[name].logits, ms: { loaded, answered: performance.now() - start } };
};

// Returns the milliseconds of each run. They are measured in the worker and cover inference alone.
window.time = async (name, seconds) => {
  const runFor = async (seconds, minRuns) => {
    const end = performance.now() + seconds * 1e3;
    const times = [];
    while (times.length < minRuns || performance.now() < end) times.push(await engines[name].run());
    return times;
  };
  await runFor(seconds * WARM_UP, 1);
  return runFor(seconds, MIN_RUNS);
};

window.ready = true;
