// onnxruntime-web off the page's thread, as ours is: WebAssembly with SIMD on one thread, or WebGPU.

let session, feeds;

async function load({ model, image, provider }) {
  const ort = await import(`/ort/ort.${provider}.bundle.min.mjs`);
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = "/ort/";
  session = await ort.InferenceSession.create(new Uint8Array(model), {
    executionProviders: [provider],
    graphOptimizationLevel: "all",
  });
  feeds = { input: new ort.Tensor("float32", image, [1, 3, 224, 224]) };
  const { logits } = await session.run(feeds);
  return { logits: Array.from(logits.data) };
}

async function run() {
  const start = performance.now();
  await session.run(feeds);
  return { ms: performance.now() - start };
}

onmessage = async ({ data }) => {
  try {
    postMessage(data.load ? await load(data.load) : await run());
  } catch (error) {
    postMessage({ error: String(error) });
  }
};
