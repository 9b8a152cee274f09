// Both engines in one page, each in a worker of its own. The driver calls load() and time() by name, one at a time.

// As natively: untimed runs first, a share of the time and at least one; a median of fewer says nothing.
const WARM_UP = 0.2;
const FEWEST_RUNS = 3;
const SIDE = 224;
const MARGIN = 16;

// The images that all engines get, without the batch: u8 RGB [224, 224, 3], and the same normalised, f32 [3, 224, 224].
const file = async (url) => (await fetch(url)).arrayBuffer();

// The page's classifier resizes to 256 and cuts the middle out: a frame around the image makes that the image itself.
async function framed() {
  const pixels = new Uint8Array(await file("/models/pixels-b1.u8"));
  const side = SIDE + 2 * MARGIN;
  const rgba = new Uint8Array(side * side * 4).fill(255);
  for (let y = 0; y < SIDE; y++) {
    for (let x = 0; x < SIDE; x++) {
      const from = (y * SIDE + x) * 3;
      rgba.set(pixels.subarray(from, from + 3), ((y + MARGIN) * side + x + MARGIN) * 4);
    }
  }
  return { side, rgba };
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

// In the terms of web/worker/src/message.rs.
const shortcut = (engine) => async ({ network, bytes, sha256, classes }) => {
  const worker = workerAt("/dist/worker_loader.js");
  const awake = await worker.next();
  if (awake.error) throw new Error(awake.error);
  const url = new URL(`/models/${network}.safetensors`, location).href;
  await worker.ask({ Load: { weights: { name: network, url, sha256, bytes }, engine } });
  const { side, rgba } = await framed();
  const run = async () => {
    const photo = { Pixels: { width: side, height: side, rgba: rgba.slice().buffer } };
    const answer = await worker.ask({ Classify: { id: 0, photo, top_k: classes } }, [photo.Pixels.rgba]);
    return answer.Prediction.prediction;
  };
  // Logarithms of probabilities are logits but for a constant.
  const logits = new Array(classes);
  for (const { index, probability } of (await run()).predictions) logits[index] = Math.log(probability);
  return { logits, run: async () => (await run()).timing_ms.inference };
};

const onnxruntime = (provider) => async ({ network }) => {
  const worker = workerAt("ort_worker.js");
  const [model, input] = await Promise.all([file(`/models/${network}-b1.onnx`), file("/models/input.f32")]);
  const image = new Float32Array(input, 0, 3 * SIDE * SIDE);
  const { logits } = await worker.ask({ load: { model, image, provider } });
  return { logits, run: async () => (await worker.ask({ run: {} })).ms };
};

const makers = {
  shortcut: shortcut("Cpu"),
  "onnxruntime-web": onnxruntime("wasm"),
  "shortcut-webgpu": shortcut("WebGpu"),
  "onnxruntime-web-webgpu": onnxruntime("webgpu"),
};
const engines = {};

window.load = async (name, settings) => {
  engines[name] = await makers[name](settings);
  return engines[name].logits;
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
