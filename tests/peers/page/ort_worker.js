// Runs onnxruntime-web in a web worker, as Shortcut's engines run: with SIMD WebAssembly on one thread, or on WebGPU.

const provider = new URLSearchParams(location.search).get("provider");
const ortModule = import(`/ort/ort.${provider}.bundle.min.mjs`);
let session, feeds;

async function load({ model, image }) {
  const ort = await ortModule;
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = "/ort/";
  session = await ort.InferenceSession.create(new Uint8Array(model), {
    executionProviders: [provider],
    graphOptimizationLevel: "all",
  });
  feeds = { input: new ort.Tensor("float32", image, [1, 3, 224, 224]) };
  return {};
}

async function run() {
  const start = performance.now();
  const { logits } = await session.run(feeds);
  return { ms: performance.now() - start, logits: logits.data };
}

onmessage = async ({ data }) => {
  try {
    postMessage(data.load ? await load(data.load) : await run());
  } catch (error) {
    postMessage({ error: String(error) });
  }
};
