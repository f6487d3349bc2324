// A worker that holds one network, so that the page answers while the network calculates. It is asked by messages:
//   { id, kind: "open", ... } answers with the keypoints of the sample's crop, found by WebAssembly on one thread;
//   { id, kind: "choose" } tries WebGPU on the same crop and says which of the two will run;
//   { id, kind: "run", crop } answers with keypoints in px of the crop, and with how long the network took.

import { decode, shape, tensor } from "./decode.js";

// What WebGPU must not differ by from WebAssembly on the sample: px of the crop, and of the scores.
const PX = 0.5;
const SCORE = 0.05;
// Keypoints that WebAssembly scores below this lie anywhere, and need not agree.
const SURE = 0.2;
// How often each is timed.
const TURNS = 3;

let told;
let settings;
let bytes;
let sample;
let session;

self.onmessage = async ({ data: { id, kind, ...given } }) => {
  try {
    self.postMessage({ id, answer: await { open, choose, run }[kind](given) });
  } catch (error) {
    self.postMessage({ id, problem: String(error?.message ?? error) });
  }
};

async function open({ model, sidecar, runtime, crop }) {
  told = sidecar;
  settings = runtime;
  bytes = await fetched(model);
  session = await created(settings.wasm, "wasm");
  sample = { crop, keypoints: (await asked(session, crop)).keypoints };
  return { keypoints: sample.keypoints };
}

// Tries WebGPU and keeps it where it agrees with WebAssembly and is not slower. Until then WebAssembly answers.
async function choose() {
  const stays = (why) => ({ backend: "WebAssembly", why });
  if (!settings.webgpu) return stays("This page came without WebGPU’s part of the runtime.");
  if (!(await self.navigator.gpu?.requestAdapter())) return stays("This browser offers no WebGPU here.");
  try {
    const tried = await created(settings.webgpu, "webgpu");
    const refusal = await refused(tried);
    if (refusal) return stays(refusal);
    session = tried;
    return { backend: "WebGPU", why: "It finds the sample’s keypoints where WebAssembly does, and is not slower." };
  } catch (error) {
    return stays(`WebGPU failed: ${error?.message ?? error}`);
  } finally {
    bytes = null;
  }
}

async function run({ crop }) {
  return asked(session, crop);
}

// Why a session of WebGPU is not taken; an empty text where it is.
async function refused(tried) {
  const px = difference((await asked(tried, sample.crop)).keypoints, sample.keypoints);
  if (px === Infinity) return "WebGPU scores the sample’s keypoints otherwise.";
  if (!(px <= PX)) return `WebGPU finds the sample’s keypoints elsewhere, ${px.toFixed(1)} px apart.`;
  const [own, other] = [await timed(session), await timed(tried)];
  return other > own ? `WebGPU is slower here (${other.toFixed(1)} ms against ${own.toFixed(1)} ms).` : "";
}

// The keypoints that a session finds in a crop, px of the crop, and the milliseconds that it took.
async function asked({ network, Tensor }, crop) {
  const began = performance.now();
  const image = new Tensor("float32", tensor(crop, told), shape(told));
  const outputs = await network.run({ [told.input.name]: image });
  const milliseconds = performance.now() - began;
  return { keypoints: decode(outputs, told), milliseconds };
}

// A session of the network. The runtime's own Tensor lies with it, as each part of the runtime has one of its own.
async function created(files, provider) {
  const { InferenceSession, Tensor, env } = await import(files.module);
  env.wasm.numThreads = 1; // more need headers that plain file servers do not send
  env.wasm.wasmPaths = { mjs: files.loader, wasm: files.wasm };
  env.logLevel = "error";
  return { network: await InferenceSession.create(bytes, { executionProviders: [provider] }), Tensor };
}

async function fetched(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`The server has no ${address} (${answer.status}).`);
  return new Uint8Array(await answer.arrayBuffer());
}

async function timed(each) {
  const taken = [];
  for (let turn = 0; turn < TURNS; turn++) taken.push((await asked(each, sample.crop)).milliseconds);
  return taken.sort((a, b) => a - b)[Math.floor(TURNS / 2)];
}

// How far the sure keypoints of two answers lie apart at most, px of the crop; infinite where scores differ.
function difference(found, wanted) {
  let most = 0;
  found.forEach(([x, y, score], k) => {
    const [wantedX, wantedY, wantedScore] = wanted[k];
    if (!(Math.abs(score - wantedScore) <= SCORE)) most = Infinity;
    else if (wantedScore >= SURE) most = Math.max(most, Math.hypot(x - wantedX, y - wantedY));
  });
  return most;
}
