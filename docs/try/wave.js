// Decode and resample audio as the package does, in any browser.
// A browser resamples to the rate of its audio context, and dampens what is near half that rate.
// Log-mel shows it: the cosine to the package's embedding is then 0.99, and neighbours change. So a
// file is decoded at its own rate, and resampled here.

const OTHERWISE = 48000; // Hz at which files of an unknown rate are decoded
const ATTENUATION = 120; // dB
const PASS = 0.913; // of half the lower rate: soxr's HQ, which the package uses
const SECONDS_AT_ONCE = 10; // of resampling, between which the browser can draw

/** Sample rate in Hz that the header of a wav, flac, ogg or mp3 file states, else 48,000. */
export function sampleRate(bytes) {
  const rate = bytes.length < 64 ? 0 : statedRate(bytes);
  return rate >= 8000 && rate <= 192000 ? rate : OTHERWISE; // what every browser decodes at
}

function statedRate(bytes) {
  let start = 0;
  if (String.fromCharCode(...bytes.subarray(0, 3)) === "ID3") {
    start = 10 + (bytes[6] << 21) + (bytes[7] << 14) + (bytes[8] << 7) + bytes[9];
  }
  const head = bytes.slice(start, start + 8192);
  const text = String.fromCharCode(...head);
  const view = new DataView(head.buffer);
  const read = (at, little) => (at + 4 <= head.length ? view.getUint32(at, little) : 0);
  const after = (tag, offset) => (text.includes(tag) ? read(text.indexOf(tag) + offset, true) : 0);
  if (text.startsWith("RIFF")) return after("fmt ", 12);
  if (text.startsWith("fLaC")) return read(18, false) >>> 12;
  if (text.startsWith("OggS")) return after("\x01vorbis", 12);
  for (let at = 0; at + 2 < head.length; at++) {
    const [version, layer] = [(head[at + 1] >> 3) & 3, (head[at + 1] >> 1) & 3];
    const index = (head[at + 2] >> 2) & 3;
    const sync = head[at] === 0xff && head[at + 1] >= 0xe0;
    if (sync && version !== 1 && layer === 1 && index !== 3) {
      return [44100, 48000, 32000][index] / { 3: 1, 2: 2, 0: 4 }[version]; // MPEG 1, 2, 2.5
    }
  }
  return 0;
}

/** Decode a file, an ArrayBuffer: mono, the mean of its channels, Float32Array at `rate` Hz. */
export async function decodeMono(buffer, rate) {
  const from = sampleRate(new Uint8Array(buffer));
  const audio = await new OfflineAudioContext(1, 1, from).decodeAudioData(buffer);
  const mono = new Float32Array(audio.length);
  for (let channel = 0; channel < audio.numberOfChannels; channel++) {
    const samples = audio.getChannelData(channel);
    for (let at = 0; at < mono.length; at++) mono[at] += samples[at] / audio.numberOfChannels;
  }
  return resample(mono, from, rate);
}

/** Resample a wave from one rate to another, Hz, by sinc interpolation with a Kaiser window. */
export async function resample(wave, from, to) {
  if (from === to) return wave;
  const divisor = greatestDivisor(from, to);
  const [phases, step] = [to / divisor, from / divisor]; // output n is at input n * step / phases
  const filters = makeFilters(from, to, phases);
  const taps = filters[0].length;
  const result = new Float32Array(Math.floor((wave.length * to) / from));
  const padded = new Float32Array(wave.length + 2 * taps);
  padded.set(wave, taps);
  for (let n = 0; n < result.length; n++) {
    const filter = filters[(n * step) % phases];
    const first = Math.floor((n * step) / phases) + taps / 2 + 1;
    let [a, b, c, d] = [0, 0, 0, 0]; // four sums, which the processor computes side by side
    for (let tap = 0; tap < taps; tap += 4) {
      a += filter[tap] * padded[first + tap];
      b += filter[tap + 1] * padded[first + tap + 1];
      c += filter[tap + 2] * padded[first + tap + 2];
      d += filter[tap + 3] * padded[first + tap + 3];
    }
    result[n] = a + b + c + d;
    if (n % (SECONDS_AT_ONCE * to) === 0) await new Promise((resolve) => setTimeout(resolve, 0));
  }
  return result;
}

const greatestDivisor = (a, b) => (b ? greatestDivisor(b, a % b) : a);

/** One filter per phase; tap k of phase p weighs the input k + 1 - taps / 2 after the output's. */
function makeFilters(from, to, phases) {
  const lower = Math.min(from, to);
  const width = ((1 - PASS) * Math.PI * lower) / from; // of the transition, radians per sample
  const taps = 4 * Math.ceil((ATTENUATION - 8) / (2.285 * width) / 4); // Kaiser's formulas
  const beta = 0.1102 * (ATTENUATION - 8.7);
  const cutoff = (((1 + PASS) / 2) * lower) / from; // of half the input's rate
  return Array.from({ length: phases }, (_, phase) =>
    Float32Array.from({ length: taps }, (_, tap) => {
      const distance = tap + 1 - taps / 2 - phase / phases;
      const place = (2 * distance) / taps;
      if (Math.abs(place) >= 1) return 0;
      const angle = Math.PI * cutoff * distance;
      const sinc = angle === 0 ? 1 : Math.sin(angle) / angle;
      return (cutoff * sinc * bessel(beta * Math.sqrt(1 - place ** 2))) / bessel(beta);
    }),
  );
}

/** The modified Bessel function of order 0, by its series. */
function bessel(x) {
  let [sum, term] = [1, 1];
  for (let k = 1; term > 1e-12 * sum; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}
