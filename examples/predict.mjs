// Classifies photos with a running server, in Node.js 18 or later. In a page, `fetch` accepts a `File` as the body in the
// same way.
//
//     node examples/predict.mjs samples/cat.jpg samples/coffee.jpg

import { readFile } from "node:fs/promises";

const server = process.env.SERVER ?? "http://127.0.0.1:8080";

async function predict(photo, topK = 3) {
  const response = await fetch(`${server}/predict?top_k=${topK}`, { method: "POST", body: photo });
  const answer = await response.json();
  if (!response.ok) throw new Error(`${response.status}: ${answer.error.message}`);
  return answer;
}

for (const path of process.argv.slice(2)) {
  const { predictions, model, backend } = await predict(await readFile(path));
  const classes = predictions.map(({ label, probability }) => `${label} ${(100 * probability).toFixed(1)}%`);
  console.log(`${path}: ${classes.join(", ")} (${model} on ${backend})`);
}
