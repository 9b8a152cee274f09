// The engines of one page, each in a worker of its own. The driver calls load() and time() by name, one at a time.

// As natively: untimed runs first, a share of the time and at least one; a median of fewer says nothing.
const WARM_UP = 0.2;
const FEWEST_RUNS = 3;
const SIDE = 224;
const MARGIN = 16;

const file = async (url) => (await fetch(url)).arrayBuffer();

// The image that all engines get, as u8 RGB [224, 224, 3], and the same normalised, f32 [3, 224, 224].
const pixels = new Uint8Array(await file("/models/pixels-b1.u8"));
const normalised = new Float32Array(await file("/models/input.f32")).slice(0, 3 * SIDE * SIDE);

// The page's classifier resizes to 256 and cuts the middle out: a frame around the image makes that the image itself.
function framed() {
  const side = SIDE + 2 * MARGIN;
  const rgba = new Uint8Array(side * side * 4).fill(255);
  for (let y = 0; y < SIDE; y++) {
    for (let x = 0; x < SIDE; x++) {
      const from = (y * SIDE + x) * 3;
      rgba.set(pixels.subarray(from, from + 3), ((y + MARGIN) * side + x + MARGIN) * 4);
    }
  }
  return { width: side, height: side, rgba: rgba.buffer };
}

function workerAt(url) {
  const worker = new Worker(url, { type: "module" });
  let settle;
  worker.onmessage = ({ data }) => data.Progress || settle(data);
  worker.onerror = (event) => settle({ error: event.message || `${url} does not load` });
  const next = () => new Promise((resolve) => (settle = resolve));
  const ask = async (message, transfers = []) => {
    const reply = next();
    worker.postMessage(message, transfers);
    const answer = await reply;
    const error = answer.error ?? answer.Failure?.error.message;
    if (error) throw new Error(error);
    return answer;
  };
  return { next, ask };
}

// In the terms of web/worker/src/message.rs. `backend` must answer: a worker without WebGPU does so by its CPU engine.
const shortcut = (folder, engine, backend) => async ({ network, bytes, sha256, classes }, loaded) => {
  const worker = workerAt(`/${folder}/worker_loader.js`);
  const awake = await worker.next();
  if (awake.error) throw new Error(awake.error);
  const url = new URL(`/models/${network}.safetensors`, location).href;
  await worker.ask({ Load: { weights: { name: network, url, sha256, bytes }, engine } });
  loaded();
  const run = async () => {
    const photo = { Pixels: framed() };
    const answer = await worker.ask({ Classify: { id: 0, photo, top_k: classes } }, [photo.Pixels.rgba]);
    const { prediction } = answer.Prediction;
    if (prediction.backend !== backend) throw new Error(`${prediction.backend} answers instead of ${backend}`);
    return prediction;
  };
  // Logarithms of probabilities are logits but for a constant.
  const logits = new Array(classes);
  for (const { index, probability } of (await run()).predictions) logits[index] = Math.log(probability);
  return { logits, run: async () => (await run()).timing_ms.inference };
};

const onnxruntime = (provider) => async ({ network }, loaded) => {
  const worker = workerAt(`ort_worker.js?provider=${provider}`);
  const model = await file(`/models/${network}-b1.onnx`);
  await worker.ask({ load: { model, image: normalised } }, [model]);
  loaded();
  const run = () => worker.ask({ run: {} });
  return { logits: Array.from((await run()).logits), run: async () => (await run()).ms };
};

const makers = {
  shortcut: shortcut("dist", "Cpu", "cpu"),
  "onnxruntime-web": onnxruntime("wasm"),
  "shortcut-webgpu": shortcut("dist", "WebGpu", "webgpu"),
  "onnxruntime-web-webgpu": onnxruntime("webgpu"),
  "burn-webgpu": shortcut("burn", "WebGpu", "wgpu"),
};
const engines = {};

// First logits, and the milliseconds from the creation of the engine's worker until it is loaded and until these.
window.load = async (name, settings) => {
  const start = performance.now();
  let loaded;
  engines[name] = await makers[name](settings, () => (loaded = performance.now() - start));
  return { logits: engines[name].logits, ms: { loaded, answered: performance.now() - start } };
};

// Milliseconds of each run, taken inside the worker around inference alone.
window.time = async (name, seconds) => {
  const until = async (seconds, fewest) => {
    const end = performance.now() + seconds * 1e3;
    const times = [];
    while (times.length < fewest || performance.now() < end) times.push(await engines[name].run());
    return times;
  };
  await until(seconds * WARM_UP, 1);
  return until(seconds, FEWEST_RUNS);
};

window.ready = true;
