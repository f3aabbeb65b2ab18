// The page "Try the encoder": find the examples most similar to an audio file, in the browser.
// Embeddings and similarities are those of `sbmusic similar FILE --in EXAMPLES`; nothing is uploaded.

import { decodeMono } from "./wave.js";

const here = (name) => new URL(name, import.meta.url).href;

/** setup.json: the examples with their embeddings, and the encoder's rates. */
export const setup = fetch(here("setup.json"), { cache: "no-cache" }).then((file) => file.json());

let loaded = null;

/** The runtime and the encoder, loaded once; a failed load is tried again with the next file. */
function load() {
  loaded ??= loadEncoder().catch((error) => {
    loaded = null;
    throw error;
  });
  return loaded;
}

async function loadEncoder() {
  if (typeof WebAssembly === "undefined") {
    throw new Error(
      "This browser has no WebAssembly, or it is turned off: use a current Firefox, Chrome, Edge " +
        "or Safari, or turn it on.",
    );
  }
  try {
    const ort = await import(here("ort.wasm.min.mjs"));
    ort.env.wasm.wasmPaths = here("./");
    ort.env.wasm.proxy = true; // computes in a worker, so that the page stays responsive
    const session = await ort.InferenceSession.create(here("encoder.onnx"));
    return { ort, session };
  } catch (error) {
    console.error(error);
    throw new Error(`The encoder cannot be loaded (${error.message}): reload the page.`);
  }
}

/** Decode an audio file: mono samples, Float32Array, at the encoder's rate. */
export async function decode(bytes, name) {
  const { sample_rate: rate } = await setup;
  try {
    return await decodeMono(bytes, rate);
  } catch (error) {
    console.error(error);
    throw new Error(
      `${name} cannot be decoded by this browser: use an audio file such as wav, mp3, flac or ogg.`,
    );
  }
}

/**
 * Divide `tokens` into chunks of at most `chunk`, each token kept once, as the package's
 * `plan_chunks` does: a last chunk shorter than a quarter starts earlier. Tokens from `start` to
 * `stop` are computed, those from `keep[0]` to `keep[1]` are used.
 */
export function planChunks(tokens, chunk) {
  const starts = [];
  for (let start = 0; start < tokens; start += chunk) starts.push(start);
  const last = starts.length - 1;
  if (last > 0) starts[last] = Math.min(starts[last], tokens - Math.ceil(chunk / 4));
  const stops = starts.map((start) => Math.min(start + chunk, tokens));
  const cuts = [0];
  for (let at = 1; at <= last; at++) cuts.push(Math.floor((starts[at] + stops[at - 1]) / 2));
  cuts.push(tokens);
  return starts.map((start, at) => ({ start, stop: stops[at], keep: [cuts[at], cuts[at + 1]] }));
}

/** The mean of a wave's tokens in the last hidden state; `progress` is called with seconds done. */
export async function embed(wave, progress = () => {}) {
  const { sample_rate: rate, samples_per_token: size, chunk_tokens: chunk } = await setup;
  const { ort, session } = await load();
  const tokens = Math.ceil(wave.length / size);
  let sum = null;
  for (const { start, stop, keep } of planChunks(tokens, chunk)) {
    progress((start * size) / rate);
    const samples = wave.slice(start * size, stop * size);
    const input = new ort.Tensor("float32", samples, [1, samples.length]);
    const { hidden } = await session.run({ wave: input });
    const width = hidden.dims.at(-1); // hidden is (1, 1, tokens, width)
    sum ??= new Float64Array(width);
    for (let token = keep[0] - start; token < keep[1] - start; token++) {
      for (let at = 0; at < width; at++) sum[at] += hidden.data[token * width + at];
    }
  }
  return sum.map((value) => value / tokens);
}

/** [row of the example, cosine], the most similar first; dimensions are standardised over all. */
export function rank(embedding, examples) {
  const embeddings = [...examples.map((example) => example.embedding), embedding];
  const rows = embeddings.map((values) => Float64Array.from(values));
  for (let at = 0; at < embedding.length; at++) {
    const column = rows.map((row) => row[at]);
    const mean = column.reduce((sum, value) => sum + value, 0) / rows.length;
    const power = column.reduce((sum, value) => sum + (value - mean) ** 2, 0) / rows.length;
    for (const row of rows) row[at] = power > 0 ? (row[at] - mean) / Math.sqrt(power) : 0;
  }
  const dot = (a, b) => a.reduce((sum, value, at) => sum + value * b[at], 0);
  const query = rows.pop();
  const cosines = rows.map((row) => dot(row, query) / Math.sqrt(dot(row, row) * dot(query, query)));
  return cosines.map((cosine, row) => [row, cosine]).sort((a, b) => b[1] - a[1]);
}

const element = (id) => document.getElementById(`try-${id}`);
let busy = false;

function say(text, isError = false) {
  element("status").textContent = text;
  element("status").classList.toggle("try-error", isError);
}

/** Let the browser draw what has changed. */
const drawn = () => new Promise((resolve) => setTimeout(resolve, 0));

async function compare(file) {
  if (busy) return;
  busy = true;
  element("area").setAttribute("aria-busy", "true");
  try {
    say("Loading the encoder (20 MB the first time).");
    await load();
    say(`Decoding ${file.name}.`);
    await drawn();
    const began = performance.now();
    const wave = await decode(await file.arrayBuffer(), file.name);
    if (!wave.length) throw new Error(`${file.name} has no samples: use a longer file.`);
    const { sample_rate: rate, examples } = await setup;
    const seconds = wave.length / rate;
    const decoded = performance.now();
    const embedding = await embed(wave, (done) => {
      say(`Computing: ${done.toFixed(0)} of ${seconds.toFixed(0)} s.`);
    });
    if (!embedding.every(Number.isFinite)) {
      throw new Error(`The embedding of ${file.name} is not finite: repair the file.`);
    }
    const ended = performance.now();
    showQuery(file);
    sortExamples(examples, rank(embedding, examples));
    const [reading, encoding] = [(decoded - began) / 1000, (ended - decoded) / 1000];
    const total = reading + encoding;
    say(
      `${seconds.toFixed(1)} s of audio in ${total.toFixed(2)} s: ${reading.toFixed(2)} s to ` +
        `decode and resample, ${encoding.toFixed(2)} s in the encoder. Real-time factor ` +
        `${(total / seconds).toFixed(3)} (${(seconds / total).toFixed(0)} times real time).`,
    );
  } catch (error) {
    say(error.message, true);
  } finally {
    busy = false;
    element("area").removeAttribute("aria-busy");
  }
}

function showQuery(file) {
  const player = element("query").querySelector("audio");
  if (player.src) URL.revokeObjectURL(player.src);
  player.src = URL.createObjectURL(file);
  element("query").querySelector("strong").textContent = file.name;
  element("query").hidden = false;
}

/** List the examples, in their order and without similarities. */
function listExamples(examples) {
  const template = element("example").content.firstElementChild;
  for (const { name, detail, file } of examples) {
    const item = template.cloneNode(true);
    item.querySelector(".try-name").textContent = name;
    item.querySelector(".try-detail").textContent = detail;
    item.dataset.file = file;
    const player = item.querySelector("audio");
    player.src = here(file);
    player.setAttribute("aria-label", `Example: ${name}`);
    element("examples").append(item);
  }
}

/** Sort the listed examples by similarity. */
function sortExamples(examples, ranking) {
  for (const [place, [row, cosine]] of ranking.entries()) {
    const item = element("examples").querySelector(`[data-file="${examples[row].file}"]`);
    item.querySelector(".try-place").textContent = place + 1;
    item.querySelector(".try-value").textContent = cosine.toFixed(3);
    const bar = item.querySelector(".try-bar").style; // from 0, in the middle
    bar.setProperty("--from", `${50 + 50 * Math.min(cosine, 0)}%`);
    bar.setProperty("--length", `${50 * Math.abs(cosine)}%`);
    element("examples").append(item);
  }
  element("examples").classList.add("try-ranked");
}

async function start() {
  const { missing, examples, sample } = await setup;
  if (missing) {
    say(`This page was built without the encoder: ${missing}.`, true);
    return;
  }
  listExamples(examples);
  element("file").addEventListener("change", (event) => {
    if (event.target.files.length) compare(event.target.files[0]);
    event.target.value = ""; // the same file can be chosen again
  });
  element("sample").addEventListener("click", async () => {
    const blob = await (await fetch(here(sample))).blob();
    compare(new File([blob], sample, { type: blob.type }));
  });
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      if (!event.dataTransfer.types.includes("Files")) return;
      event.preventDefault(); // else the browser leaves the page and opens the file
      const inside = kind === "dragenter" || kind === "dragover";
      element("area").classList.toggle("try-over", inside);
      if (kind === "drop" && event.dataTransfer.files.length) compare(event.dataTransfer.files[0]);
    });
  }
  document.addEventListener("play", (event) => {
    for (const player of document.querySelectorAll("audio")) {
      if (player !== event.target) player.pause();
    }
  }, true);
  element("area").hidden = false;
  say("");
}

start().catch((error) => {
  console.error(error);
  say(`This page cannot be set up (${error.message}): reload it.`, true);
});
