"""Files of the page docs/try.md: the encoder as ONNX, composed examples, onnxruntime-web.

They are made when the site is built and kept in build/try; none is committed. Without npm, a
network or the extras [onnx] and [replica] the site is built, too; the page says what is missing.
"""

import base64
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "try"
PACKAGES = {"onnx": "onnx", "onnxscript": "onnx", "pretty_midi": "replica", "scipy": "replica"}
PACKAGES |= {"midirenderer": "replica"}  # package: its extra
RUNTIME = "onnxruntime-web@1.30.0"
INTEGRITY = (
    "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
)
RUNTIME_FILES = [
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
]
SEED, SECONDS, EXAMPLES = 23, 10.0, 10  # one example per genre
SAMPLE = 16  # a track of the corpus: the second of the artist of example 6
# What the graph, the examples and their embeddings depend on.
SOURCES = ["docs/try_page.py", "speechbrain_music/models/shipped/config.json"]
SOURCES += ["speechbrain_music/models/*.py", "speechbrain_music/nnet/*.py"]
SOURCES += ["speechbrain_music/inference/*.py", "data_prep/replica/*.*"]


class Missing(Exception):
    """Something that the site can be built without; the message goes into the page."""


def try_page_files():
    """Make the files; return the content of setup.json, and the paths of the others."""
    try:
        extras = sorted({extra for name, extra in PACKAGES.items() if find_spec(name) is None})
        if extras:
            raise Missing(
                f"pip install -e '.[{','.join(extras)}]' in the clone, then run make docs"
            )
        runtime = make_once(FOLDER / RUNTIME.replace("@", "-"), fetch_runtime)
        digest = hashlib.sha256()
        for path in sorted(path for pattern in SOURCES for path in ROOT.glob(pattern)):
            digest.update(path.read_bytes())
        encoder = make_once(FOLDER / f"encoder-{digest.hexdigest()[:16]}", make_encoder)
    except Missing as missing:
        return {"missing": str(missing)}, []
    setup = json.loads((encoder / "setup.json").read_text(encoding="utf-8"))
    files = [*runtime.iterdir(), *(encoder / name for name in ("encoder.onnx", setup["sample"]))]
    return setup, [*files, *(encoder / example["file"] for example in setup["examples"])]


def make_once(folder, make):
    """Call `make` with a new folder that becomes `folder`, unless that is there already."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            new = Path(temporary) / "new"
            new.mkdir()
            make(new)
            try:
                new.rename(folder)
            except OSError:
                if not folder.exists():  # else another build has just made it
                    raise
    return folder


def fetch_runtime(folder):
    """Fetch the files of onnxruntime-web that the page loads."""
    npm = shutil.which("npm")
    if npm is None:
        raise Missing(f"install Node.js, whose npm fetches {RUNTIME}, then run make docs")
    command = [npm, "pack", RUNTIME, "--ignore-scripts", "--fetch-retries=0"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=600)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        remedy = "connect to a network, then run make docs"
        raise Missing(f"npm could not fetch {RUNTIME}; {remedy}") from None
    (archive,) = folder.iterdir()
    found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != INTEGRITY:
        raise RuntimeError(f"{RUNTIME} from npm has the SHA-512 {found}, not {INTEGRITY}")
    with tarfile.open(archive) as tar:
        for name in RUNTIME_FILES:
            (folder / name).write_bytes(tar.extractfile(f"package/dist/{name}").read())
    archive.unlink()


def make_encoder(folder):
    """Export the shipped encoder, compose the examples and the sample, embed the examples."""
    import numpy
    import onnx

    from speechbrain_music.data_prep.replica.corpus import CorpusPlan
    from speechbrain_music.data_prep.replica.storage import write_audio
    from speechbrain_music.data_prep.replica.synth import RATE

    plan = CorpusPlan(SEED, shortest=SECONDS, longest=SECONDS)
    examples = []
    for track in range(EXAMPLES):
        wave, truth = plan.track(track)
        _, _, tonic, mode = truth["keys"][0]
        file = f"{truth['genre']}.mp3"
        write_audio(folder / file, wave, RATE)
        detail = f"{tonic} {mode}, {truth['tempo']:.0f} bpm"
        examples.append({"file": file, "name": truth["genre"].capitalize(), "detail": detail})
    files = [example["file"] for example in examples]
    sbmusic("embed", *files, "--out", "examples.npz", cwd=folder)
    with numpy.load(folder / "examples.npz") as embedded:
        assert list(embedded["paths"]) == files
        chunk = json.loads(str(embedded["settings"]))["chunk"]
        for example, embedding in zip(examples, embedded["embeddings"], strict=True):
            example["embedding"] = [float(f"{value:.8g}") for value in embedding]
    wave, truth = plan.track(SAMPLE)
    sample = f"sample_{truth['genre']}.mp3"
    write_audio(folder / sample, wave, RATE)
    shipped = ROOT / "speechbrain_music" / "models" / "shipped"
    sbmusic("export", shipped, "--onnx", "encoder.onnx", "--layer=-1", cwd=folder)
    graph = onnx.load(folder / "encoder.onnx")
    metadata = {entry.key: json.loads(entry.value) for entry in graph.metadata_props}
    rate, token = metadata["features"]["sample_rate"], metadata["tokens"]["seconds"]
    setup = {
        "missing": None,
        "sample_rate": rate,
        "samples_per_token": round(rate * token),
        "chunk_tokens": round(chunk / token),
        "sample": sample,
        "examples": examples,
    }
    (folder / "setup.json").write_text(json.dumps(setup), encoding="utf-8")


def sbmusic(*words, cwd):
    """Run the command line."""
    command = [sys.executable, "-m", "speechbrain_music.inference.cli", *map(str, words)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"sbmusic {words[0]} failed:\n{done.stderr}")
