// Runs onnxruntime-web on WebGPU outside a browser: in Node.js, on Dawn, which is Chromium's WebGPU implementation.
// Reads one JSON request per line from stdin and writes one JSON answer per line to stdout, like worker.py.
//
//     node dawn_worker.mjs NODE_MODULES

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

// The same values as in worker.py.
const WARM_UP = 0.2;
const MIN_RUNS = 3;
const IMAGE_VALUES = 3 * 224 * 224;

// Output of the libraries must not be mixed with the answers on stdout.
console.log = console.info = console.debug = console.error;
// The driver reports the last line of stderr as the reason.
process.on("uncaughtException", (error) => {
  console.error(`${error}`);
  process.exit(1);
});

const modules = pathToFileURL(`${process.argv[2]}/`).href;
const { create, globals } = await import(`${modules}webgpu/index.js`);
Object.assign(globalThis, globals);

// Dawn's bindings do not accept shared memory, which the wasm module uses, so the data is copied.
const { writeBuffer } = globals.GPUQueue.prototype;
globals.GPUQueue.prototype.writeBuffer = function (buffer, offset, data, start = 0, size = undefined) {
  const view = ArrayBuffer.isView(data) ? data : new Uint8Array(data);
  const elementSize = view.BYTES_PER_ELEMENT ?? 1;
  const length = (size ?? view.byteLength / elementSize - start) * elementSize;
  const bytes = new Uint8Array(view.buffer, view.byteOffset + start * elementSize, length).slice();
  return writeBuffer.call(this, buffer, offset, bytes);
};

const gpu = create([]);
Object.defineProperty(globalThis, "navigator", { value: { gpu, userAgent: "node" }, configurable: true });
const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
if (!adapter) throw new Error("Dawn found no WebGPU adapter");
console.error(`adapter: ${adapter.info.description}`);

const ort = await import(`${modules}onnxruntime-web/dist/ort.webgpu.bundle.min.mjs`);
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = `${modules}onnxruntime-web/dist/`;

let session, feeds;

async function load({ folder, network, batch }) {
  const model = readFileSync(`${folder}/${network}-b${batch}.onnx`);
  const bytes = new Uint8Array(readFileSync(`${folder}/input.f32`));
  const images = new Float32Array(bytes.buffer, bytes.byteOffset, batch * IMAGE_VALUES).slice();
  await session?.release();
  session = await ort.InferenceSession.create(new Uint8Array(model), {
    executionProviders: ["webgpu"],
    graphOptimizationLevel: "all",
  });
  feeds = { input: new ort.Tensor("float32", images, [batch, 3, 224, 224]) };
  const { logits } = await session.run(feeds);
  return { logits: Array.from(logits.data) };
}

async function time({ seconds }) {
  const runFor = async (seconds, minRuns) => {
    const end = performance.now() + seconds * 1e3;
    const times = [];
    while (times.length < minRuns || performance.now() < end) {
      const start = performance.now();
      await session.run(feeds);
      times.push(performance.now() - start);
    }
    return times;
  };
  await runFor(seconds * WARM_UP, 1);
  return { times_ms: await runFor(seconds, MIN_RUNS) };
}

// Keeps Node.js alive: it does not wait for pending operations of Dawn.
setInterval(() => {}, 1000);
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  const answer = request.load ? await load(request.load) : await time(request.time);
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit();
