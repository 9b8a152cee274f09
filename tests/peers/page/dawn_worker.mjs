// onnxruntime-web's WebGPU outside of a browser: under node, on Dawn, which is Chromium's WebGPU. A request a line on stdin, an
// answer a line on stdout, as in worker.py.
//
//     node dawn_worker.mjs NODE_MODULES

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

// As in worker.py.
const WARM_UP = 0.2;
const FEWEST_RUNS = 3;
const IMAGE = 3 * 224 * 224;

// What the libraries print must not get between the answers.
console.log = console.info = console.debug = console.error;
// The last line says why it ends.
process.on("uncaughtException", (error) => {
  console.error(`${error}`);
  process.exit(1);
});

const modules = pathToFileURL(`${process.argv[2]}/`).href;
const { create, globals } = await import(`${modules}webgpu/index.js`);
Object.assign(globalThis, globals);

// Dawn's bindings take no shared memory, which the module's is: a copy.
const { writeBuffer } = globals.GPUQueue.prototype;
globals.GPUQueue.prototype.writeBuffer = function (buffer, offset, data, start = 0, size = undefined) {
  const view = ArrayBuffer.isView(data) ? data : new Uint8Array(data);
  const each = view.BYTES_PER_ELEMENT ?? 1;
  const bytes = (size ?? view.byteLength / each - start) * each;
  return writeBuffer.call(this, buffer, offset, new Uint8Array(view.buffer, view.byteOffset + start * each, bytes).slice());
};

const gpu = create([]);
Object.defineProperty(globalThis, "navigator", { value: { gpu, userAgent: "node" }, configurable: true });
const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
if (!adapter) throw new Error("Dawn finds no adapter");
console.error(`on ${adapter.info.description}`);

const ort = await import(`${modules}onnxruntime-web/dist/ort.webgpu.bundle.min.mjs`);
ort.env.wasm.numThreads = 1;
ort.env.wasm.wasmPaths = `${modules}onnxruntime-web/dist/`;

let session, feeds;

async function load({ folder, network, batch }) {
  const model = readFileSync(`${folder}/${network}-b${batch}.onnx`);
  const bytes = new Uint8Array(readFileSync(`${folder}/input.f32`));
  const images = new Float32Array(bytes.buffer, bytes.byteOffset, batch * IMAGE).slice();
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
  const until = async (seconds, fewest) => {
    const end = performance.now() + seconds * 1e3;
    const times = [];
    while (times.length < fewest || performance.now() < end) {
      const start = performance.now();
      await session.run(feeds);
      times.push(performance.now() - start);
    }
    return times;
  };
  await until(seconds * WARM_UP, 1);
  return { times_ms: await until(seconds, FEWEST_RUNS) };
}

// Node does not wait for Dawn by itself.
setInterval(() => {}, 1000);
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  const answer = request.load ? await load(request.load) : await time(request.time);
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
process.exit();
