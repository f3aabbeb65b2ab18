"""The page docs/try.md in a real browser: its embeddings and neighbours are those of Python."""

import base64
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import onnxruntime
import pytest
import soundfile
from chromium import find_chromium, open_page
from tones import write_tones

from speechbrain_music.data_prep.files import find_audio
from speechbrain_music.dataio.audio import audio_info, resampled_length
from speechbrain_music.dataio.overlap import plan_chunks
from speechbrain_music.inference import MusicEncoder
from speechbrain_music.inference.cli.similar import rank, unit_layers

ROOT = Path(__file__).parents[2]
MODULE = "const page = await import(new URL('try.js', location).href);"
STATUS = "document.querySelector('#try-status').textContent"
TEXT = f"return {STATUS}"
REMEMBER = "addEventListener('change', (event) => { window.file = event.target.files[0] }, true)"
READY = "document.querySelector('#try-area:not([hidden])')"
DONE = f"!document.querySelector('#try-area[aria-busy]') && /[.]$/.test({STATUS})"
NAME = "document.querySelector('#try-query strong').textContent"
ORDER = "return [...document.querySelectorAll('#try-examples > li')].map((li) => li.dataset.file)"
BASE64 = """
const bytes = new Uint8Array(wave.buffer);
let text = "";
for (let at = 0; at < bytes.length; at += 32768) {
  text += String.fromCharCode(...bytes.subarray(at, at + 32768));
}
return btoa(text);
"""

pytestmark = pytest.mark.slow


def build_site(folder, **environment):
    """The built site's folder, and what setup.json says."""
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | environment
    )
    assert not done.returncode, done.stderr
    return json.loads((folder / "try" / "setup.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def serve():
    """A function: folder -> address at which it is served."""
    servers = []

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    def serve(folder):
        handler = functools.partial(Quiet, directory=folder)
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_address[1]}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def site(tmp_path_factory, serve):
    """Folder and address of the page, and what setup.json says."""
    if find_chromium() is None:
        pytest.skip("no Chromium is installed")
    folder = tmp_path_factory.mktemp("site")
    setup = build_site(folder)
    if setup["missing"]:
        pytest.skip(f"the page was built without the encoder: {setup['missing']}")
    return folder / "try", f"{serve(folder)}/try/", setup


@pytest.fixture
def page(site):
    """The page, ready for a file."""
    with open_page(site[1]) as page:
        page.wait_for(READY)
        yield page


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def embed_by_onnxruntime(session, wave, setup):
    """Mean of the last hidden state of a wave, in the chunks of `MusicEncoder`."""
    size, kept = setup["samples_per_token"], []
    for context, keep in plan_chunks(-(-len(wave) // size), setup["chunk_tokens"]):
        part = wave[None, context.start * size : context.stop * size]
        ((hidden,),) = session.run(None, {"wave": part})[0]
        kept.append(hidden[keep.start - context.start : keep.stop - context.start])
    return np.concatenate(kept).mean(0, dtype=np.float64)


def ranked(setup, embedding):
    """Files of the examples by `sbmusic similar`, and their similarities."""
    examples = [example["embedding"] for example in setup["examples"]]
    layers = unit_layers(np.array([*examples, embedding]), "standardised")
    order = rank(layers, len(examples), len(examples))
    return [setup["examples"][row]["file"] for row, _ in order], [value for _, value in order]


def choose(page, path):
    """Choose a file and wait until the page has compared it."""
    page.choose_file("#try-file", path)
    page.wait_for(f"{DONE} && {NAME} === {path.name!r}")


def check_as_in_python(site, page, path):
    """What the page shows for a file that it has compared, and computes from it, is Python's."""
    folder, _, setup = site
    shown = page.run(ORDER)
    page.run(f"{MODULE} window.wave = await page.decode(await file.arrayBuffer(), file.name)")
    wave = np.frombuffer(base64.b64decode(page.run(BASE64)), np.float32)
    info = audio_info(path)
    assert len(wave) == resampled_length(info.frames, info.sample_rate)
    found = np.array(page.run(f"{MODULE} return [...(await page.embed(wave))]"))
    expected = embed_by_onnxruntime(
        onnxruntime.InferenceSession(folder / "encoder.onnx"), wave, setup
    )
    assert cosine(found, expected) > 1 - 1e-6
    files, similarities = ranked(setup, expected)
    code = (
        "const { examples } = await page.setup; return page.rank(await page.embed(wave), examples)"
    )
    ranking = page.run(f"{MODULE} {code}")
    assert shown == files == [setup["examples"][row]["file"] for row, _ in ranking]
    assert np.abs([value for _, value in ranking] - np.array(similarities)).max() < 1e-4
    of_file = MusicEncoder.from_export(device="cpu").encode_file(path, pool="mean").values
    assert cosine(found, of_file) > 0.9999
    nearest, of_file_similarities = ranked(setup, of_file)
    assert nearest[:3] == files[:3]
    assert np.abs(np.sort(of_file_similarities) - np.sort(similarities)).max() < 0.01


def test_recordings_as_in_python(site, page, real_audio):
    """The largest wav, mp3 and ogg of the recordings: some have several chunks.

    On the browser's own wave the cosine to onnxruntime's embedding is above 1 - 1e-6; on the file,
    which libsndfile and soxr decode and resample for Python, it is above 0.9999.
    """
    paths = [real_audio / name for name in find_audio(real_audio)[0]]
    page.run(REMEMBER)
    for suffix in (".wav", ".mp3", ".ogg"):
        of_kind = [path for path in paths if path.suffix == suffix]
        path = max(of_kind, key=lambda path: path.stat().st_size)
        choose(page, path)
        check_as_in_python(site, page, path)


def test_examples_sample_and_files_that_are_dropped(site, page, tmp_path):
    folder, _, setup = site
    page.run("document.querySelector('#try-sample').click()")
    page.wait_for(f"{DONE} && {NAME} === {setup['sample']!r}")
    assert re.search(r"10\.0 s of audio in .* Real-time factor 0\.\d+ \(\d+ times", page.run(TEXT))
    assert page.run(ORDER)[0] == "metal.mp3"  # by the same artist
    page.drop_file(".try-drop", folder / "jazz.mp3")
    page.wait_for(f"{DONE} && {NAME} === 'jazz.mp3'")
    assert page.run(ORDER)[0] == "jazz.mp3"
    page.run(REMEMBER)
    write_tones(tmp_path, seconds=(32, 34))  # the second chunk begins earlier
    for path in (folder / "blues.mp3", tmp_path / "waltz.wav"):
        choose(page, path)
        check_as_in_python(site, page, path)
    requested = page.run("return performance.getEntriesByType('resource').map((it) => it.name)")
    own = page.run("return location.origin")
    others = {urlsplit(name).hostname for name in requested if not name.startswith(own)}
    assert others <= {None, "api.github.com"}  # data: and blob:; the theme counts stars


def test_what_cannot_be_compared_is_one_sentence(site, page, tmp_path):
    folder, *_ = site
    (tmp_path / "notes.mp3").write_text("not audio")
    (tmp_path / "empty.wav").touch()
    for name in ("notes.mp3", "empty.wav"):
        page.choose_file("#try-file", tmp_path / name)
        page.wait_for(f"{DONE} && {STATUS}.startsWith({name!r})")
        assert page.run(TEXT) == (
            f"{name} cannot be decoded by this browser: use an audio file such as wav, mp3, flac "
            "or ogg."
        )
    choose(page, folder / "rock.mp3")
    assert page.run(ORDER)[0] == "rock.mp3"


def test_browser_without_webassembly(site, page):
    script = "delete globalThis.WebAssembly; globalThis.second = true"
    page.call("Page.addScriptToEvaluateOnNewDocument", source=script)
    page.call("Page.reload")
    page.wait_for(f"second && {READY}")
    page.run("document.querySelector('#try-sample').click()")
    page.wait_for(DONE)
    assert page.run(TEXT).startswith("This browser has no WebAssembly, or it is turned off: ")


def test_page_that_was_built_without_the_encoder(site, serve, tmp_path):
    shutil.copytree(site[0].parent, tmp_path / "site")
    missing = json.dumps({"missing": "install Node.js"})
    (tmp_path / "site" / "try" / "setup.json").write_text(missing)
    with open_page(f"{serve(tmp_path / 'site')}/try/") as page:
        page.wait_for(f"{STATUS}.includes('without the encoder: install Node.js.')")
        assert page.run(f"return !{READY}")


def test_layout_fits_a_phone_and_a_desktop(site, page):
    for width in (1200, 390, 320):
        page.resize(width, 1000)
        assert page.run("return document.documentElement.scrollWidth") <= width
        sizes = "return [...document.querySelectorAll('#try audio')].map((it) => it.clientWidth)"
        assert min(page.run(sizes)[1:]) >= 200


def test_chunks_and_headers_as_in_python(page, site, tmp_path):
    size = site[2]["chunk_tokens"]
    lengths = [1, 749, 750, 751, 930, 940, 1499, 1500, 1501, 1700, 1800, 20000]
    plans = page.run(f"{MODULE} return {lengths}.map((tokens) => page.planChunks(tokens, {size}))")
    for tokens, plan in zip(lengths, plans, strict=True):
        expected = [
            {"start": c.start, "stop": c.stop, "keep": [k.start, k.stop]}
            for c, k in plan_chunks(tokens, size)
        ]
        assert plan == expected
    wave = MODULE.replace("try.js", "wave.js")
    cases = [(suffix, rate) for suffix in ("wav", "flac", "ogg", "mp3") for rate in (22050, 48000)]
    for suffix, rate in [*cases, ("mp3", 11025), ("mp3", 32000), ("wav", 1000), ("aiff", 44100)]:
        soundfile.write(tmp_path / f"it.{suffix}", 0.1 * np.ones(8000), rate)
        for tag in (b"", b"ID3\x04\0\0\0\0\x02\x00" + bytes(256)):
            head = list((tag + (tmp_path / f"it.{suffix}").read_bytes())[:5000])
            found = page.run(f"{wave} return page.sampleRate(Uint8Array.from({head}))")
            known = rate if suffix != "aiff" and rate >= 8000 else 48000
            assert found == known, (suffix, rate, tag)
