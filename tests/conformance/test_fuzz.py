"""Damaged and hostile files and options: refused in a sentence, or harmless; never worse.

`python tests/conformance/test_fuzz.py` prints the table of docs/results/robustness.md.
"""

import json
import logging
import pickle
import random
import resource
import shutil
import signal
import sys
import tempfile
from collections import Counter
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple
from unittest.mock import Mock

import numpy as np
import pytest
import soundfile
import torch

sys.path[:0] = [str(Path(__file__).parents[n]) for n in (1, 2)]  # as a script
import tiny  # noqa: E402

from recipes.pretrain import train as pretrain  # noqa: E402
from recipes.tokenizer import train as tokenizer  # noqa: E402
from speechbrain_music.brains.segments import MODEL_OPTIONS  # noqa: E402
from speechbrain_music.data_prep.headers import read_headers  # noqa: E402
from speechbrain_music.data_prep.manifest import manifest_text, read_manifest  # noqa: E402
from speechbrain_music.data_prep.merge import merge  # noqa: E402
from speechbrain_music.dataio.audio import audio_info, read_segment  # noqa: E402
from speechbrain_music.evaluation.features import FeatureCache  # noqa: E402
from speechbrain_music.evaluation.probe_files import load_probe, save_probe  # noqa: E402
from speechbrain_music.evaluation.protocol import load_task  # noqa: E402
from speechbrain_music.evaluation.tasks import ALL_TASKS  # noqa: E402
from speechbrain_music.inference import MusicEncoder, cli, store  # noqa: E402
from speechbrain_music.inference.embeddings import read_embeddings  # noqa: E402
from speechbrain_music.metrics.frame_tasks import BeatTracking  # noqa: E402
from speechbrain_music.models.frozen import MelEncoder  # noqa: E402
from speechbrain_music.nnet.frame_heads import FrameHead  # noqa: E402
from speechbrain_music.utils.checkpoints import AtomicCheckpointer  # noqa: E402
from speechbrain_music.utils.config import load_experiment  # noqa: E402
from speechbrain_music.utils.errors import UserError  # noqa: E402

SECONDS, MEMORY = 20, 2**31  # a case may take
WORDS = [
    *(None, True, False, 0, 1, -1, 1.5, -0.0, 1e308, 2**63, 10**400, "", "x", "1", "nan", "../x"),
    *([], {}, [None], {"a": 1}, "\ud800", "\x1b[31m", "$data_root", " #", "~", [[[[[[1]]]]]]),
]
OPTIONS = [
    *("0", "-1", "1", "1.5", "1e400", "nan", "inf", "-inf", "1e20", "100001", "true", "no", "off"),
    *("", " ", "x", "~", "null", "[]", "[-1]", "{}", "[1, x]", "/", "a b #c", "!new:os.system"),
    *(
        "2020-13-45",
        "0x10",
        "1_000",
        "é",
        "&a",
        "*a",
        "None",
        "os.system",
        "collections.OrderedDict",
    ),
]


class Target(NamedTuple):
    """Files that a reader reads: what makes them, which are mutated, and how they are used."""

    make: callable  # folder -> None
    files: list
    use: callable  # folder -> the value that was read; None where nothing proves it
    rounds: int


# ---- mutations ----


def mutate_bytes(data, draw):
    """Other bytes: cut, flipped, overwritten, doubled, inserted or replaced."""
    kind = draw.randrange(7)
    at = draw.randrange(len(data)) if data else 0
    size = draw.choice([1, 8, 64, 1024])
    if kind == 0:
        return data[:at]
    if kind == 1:
        return (
            data[:at] + bytes([(data[at] if data else 0) ^ 1 << draw.randrange(8)]) + data[at + 1 :]
        )
    if kind == 2:
        return data[:at] + bytes(size) + data[at + size :]
    if kind == 3:
        return data[:at] + data[at : at + size] + data[at:]
    if kind == 4:
        return data[:at] + draw.randbytes(size) + data[at:]
    if kind == 5:
        return draw.choice([b"", b"\n", b"\xff\xfe", b"[" * 10**5, draw.randbytes(size)])
    return pickle.dumps(Hostile())


class Hostile:
    """Creates a file when it is unpickled."""

    def __reduce__(self):
        return open, ("owned", "w")


def mutate_json(text, draw):
    """Another value, or none, at a place of a JSON document."""
    content = json.loads(text)
    places = []

    def walk(node):
        for key in node if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], (dict, list)):
                walk(node[key])

    if isinstance(content, (dict, list)) and draw.random() > 0.1:
        walk(content)
        node, key = draw.choice(places)
        if draw.random() < 0.2:
            del node[key]
        else:
            node[key] = draw.choice(WORDS)
    else:
        content = draw.choice(WORDS)
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(content)
    finally:
        sys.set_int_max_str_digits(4300)


def mutate(path, draw):
    """One mutation of a file; JSON lines are changed one at a time."""
    data = path.read_bytes()
    if path.suffix in (".json", ".jsonl") and draw.random() < 0.7:
        lines = data.decode().splitlines() if path.suffix == ".jsonl" else [data.decode()]
        number = draw.choice([n for n, line in enumerate(lines) if line.strip()])
        lines[number] = mutate_json(lines[number], draw)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="surrogatepass")
    elif path.suffix == ".csv" and draw.random() < 0.7:
        rows = [line.split(",") for line in data.decode().splitlines()]
        row = draw.choice(rows)
        row[draw.randrange(len(row))] = str(
            draw.choice([*WORDS[:9], *WORDS[11:16], "1e19", "9" * 30])
        )
        text = "\n".join(",".join(row) for row in rows) + "\n"
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
    else:
        path.write_bytes(mutate_bytes(data, draw))


# ---- what is read ----


def make_export(folder):
    torch.manual_seed(0)
    tiny.untrained_export(folder / "export")


def use_export(folder):
    encoder = MusicEncoder.from_export(folder / "export")
    cli.main(["info", str(folder / "export")])
    return encoder.encode_batch(torch.linspace(-0.5, 0.5, 12000)[None]).values.numpy().tobytes()


def make_embeddings(folder):
    make_export(folder)
    for kind in ("npz", "npy"):
        embed(folder, folder / f"e.{kind}")


def waves_of(folder):
    """Three files, the same for a folder and its copies: their paths are stored."""
    waves = folder.with_name("waves")
    if not waves.exists():
        waves.mkdir()
        for name in "abc":
            wave = np.random.default_rng(ord(name)).uniform(-0.5, 0.5, 12000)
            soundfile.write(waves / f"{name}.wav", wave, 24000)
    return waves


def embed(folder, out):
    waves = str(waves_of(folder))
    argv = ["embed", waves, "--model", str(folder / "export"), "--out", str(out)]
    # Each file in a batch of its own: a file that is embedded again is rounded as the first time.
    code = cli.main([*argv, "--chunk", "0.52", "--batch", "1"])
    if code:
        raise UserError(f"exit code {code}")


def make_partial(folder):
    """What `embed` has stored when it is killed before its last step."""
    make_export(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store.embeddings, "write_embeddings", Mock(side_effect=UserError("stopped")))
        with pytest.raises(UserError):
            embed(folder, folder / "e.npz")


def use_partial(folder):
    embed(folder, folder / "e.npz")
    assert np.isfinite(read_embeddings(folder / "e.npz").durations).all()


def use_embeddings(folder):
    for kind in ("npz", "npy"):
        path = folder / f"e.{kind}"
        cli.main(["info", str(path)])
        cli.main(["similar", str(waves_of(folder) / "a.wav"), "--in", str(path)])
    return read_embeddings(folder / "e.npz").values.tobytes()


def make_checkpoints(folder):
    for step in (1, 2):
        model, optimizer = make_model()
        with torch.no_grad():
            model.weight.fill_(step)
        checkpointer(folder, model, optimizer).save_checkpoint(meta={"step": step, "loss": 1.0})


def make_model():
    model = torch.nn.Linear(3, 3)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(3)).sum().backward()
    optimizer.step()
    return model, optimizer


def checkpointer(folder, model, optimizer):
    parts = {"model": model, "optimizer": optimizer}
    return AtomicCheckpointer(folder / "save", parts)


def use_checkpoints(folder):
    """The weight is 2, or 1 of the checkpoint before: both are whole."""
    model, optimizer = make_model()
    with torch.no_grad():
        model.weight.zero_()
    checkpointer(folder, model, optimizer).recover_if_possible()
    values = set(model.weight.flatten().tolist())
    assert all(torch.isfinite(v).all() for s in optimizer.state.values() for v in s.values())
    return "whole" if len(values) == 1 and values <= {1.0, 2.0} else values


def manifest_rows():
    row = {"duration": 2.0, "start": 0, "stop": 48000}
    return [{"ID": n, "wav": f"{n}.wav", "genre": "x", **row} for n in ("a", "b", "c")]


def make_manifests(folder):
    for name in ("one", "two"):
        (folder / name).mkdir()
        for split in ("train", "valid"):
            text = manifest_text(manifest_rows(), ["genre"])
            (folder / name / f"{split}.csv").write_text(text)
        report = {"data_folder": str(folder), "splits": {}}
        (folder / name / "report.json").write_text(json.dumps(report))


def use_manifests(folder):
    shutil.rmtree(folder / "merged", ignore_errors=True)
    read_manifest(folder / "one/train.csv", folder)
    merge({folder / "one": 1.0, folder / "two": 1.0}, folder / "merged")


def make_headers(folder):
    make_export(folder)
    for name in "ab":
        soundfile.write(folder / f"{name}.wav", np.zeros(100), 24000)
    use_headers(folder)


def use_headers(folder):
    read_headers(folder, ["a.wav", "b.wav"], folder / "headers.jsonl")


def make_features(folder):
    cache = feature_cache(folder)
    cache.open()
    cache.extract(1, bar=False)


def feature_cache(folder):
    import pandas as pd

    wave = folder / "a.wav"
    if not wave.exists():
        soundfile.write(wave, np.random.default_rng(0).uniform(-0.5, 0.5, 4 * 24000), 24000)
    rows = [
        {"ID": str(n), "wav": str(wave), "start": n * 24000, "stop": (n + 1) * 24000}
        for n in (0, 1, 2, 900)  # the last lies beyond the end
    ]
    table = pd.DataFrame(rows).assign(duration=1.0)

    class Encoder(torch.nn.Module):
        identity, name, layers, dim, sample_rate, padding_safe = "x", "x", ["0"], 3, 24000, True

        def forward(self, wave, samples):
            return wave[:, None, :3]

    return FeatureCache(folder / "features", Encoder(), table)


def use_features(folder):
    cache = feature_cache(folder)
    cache.open()
    cache.extract(1, bar=False)
    values, readable, reasons = cache.load()
    assert np.isfinite(np.asarray(values)[readable]).all()


def make_probe(folder):
    head = FrameHead("tcn", torch.zeros(1, 512), torch.ones(1, 512), outputs=2, up=2, hidden=8)
    cache = SimpleNamespace(encoder=MelEncoder(), layers=["0"])
    hparams = {"encoder": "mel", "chunk_seconds": 30, "overlap_seconds": 6}
    save_probe(folder / "probe.safetensors", BeatTracking(), head, cache, hparams)


def use_probe(folder):
    probe = load_probe(folder / "probe.safetensors")
    weights = {name: value.tolist() for name, value in probe.head.state_dict().items()}
    return weights, probe.task.config, probe.encoder.name, probe.layers, probe.context


def make_audio(folder):
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, (9600, 2))
    for kind in ("wav", "flac", "mp3", "ogg", "aiff"):
        soundfile.write(folder / f"a.{kind}", wave, 24000)
    soundfile.write(folder / "float.wav", wave, 24000, subtype="FLOAT")


def use_audio(folder):
    for path in sorted(folder.iterdir()):
        try:
            audio_info(path)
            wave = read_segment(path, 0, 4800)
        except UserError:
            continue
        # What is read must give a finite spectrogram.
        assert np.isfinite(np.square(wave, dtype="f4").sum(dtype="f4"))


def files_of(folder, pattern):
    return sorted(path for path in folder.glob(pattern) if path.is_file())


TARGETS = {
    "exports": Target(make_export, ["export/*"], use_export, 200),
    "embeddings": Target(make_embeddings, ["e.*"], use_embeddings, 200),
    "unfinished embeddings": Target(make_partial, ["*.partial/*"], use_partial, 100),
    "checkpoints": Target(make_checkpoints, ["save/*/*"], use_checkpoints, 150),
    "manifests": Target(make_manifests, ["*/*"], use_manifests, 150),
    "headers": Target(make_headers, ["headers.jsonl"], use_headers, 60),
    "probes": Target(make_probe, ["*"], use_probe, 100),
    "feature caches": Target(make_features, ["features/*/*"], use_features, 100),
    "audio files": Target(make_audio, ["*"], use_audio, 200),
}


# ---- running a case ----


class Hang(BaseException):
    """A case took too long."""


@contextmanager
def limits():
    def ring(*_):
        raise Hang

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < MEMORY, f"{grown / 2**20:.0f} MiB"


def outcome(use, *arguments, expected=None):
    """Refused, harmless, or what is wrong."""
    printed = StringIO()
    try:
        with limits(), redirect_stdout(printed), redirect_stderr(printed):
            value = use(*arguments)
    except UserError as error:
        return "refused" if "\n" not in str(error) else f"lines: {error}"
    except SystemExit as error:
        return "refused" if error.code == 2 else f"exit {error.code}"
    except Hang:
        return "hangs"
    except Exception as error:  # noqa: BLE001 - whatever it raises
        return f"{type(error).__name__}: {error}"[:300]
    if "Traceback" in printed.getvalue() or "\x1b[31m" in printed.getvalue():
        return "prints: " + printed.getvalue()[-300:]
    return "harmless" if value == expected else "another value"


def fuzz_files(name, work):
    """Counter of outcomes, and the wrong ones with their number."""
    target, counts, wrong = TARGETS[name], Counter(), []
    whole = work / "whole"
    whole.mkdir(parents=True)
    target.make(whole)
    case = work / "case"
    shutil.copytree(whole, case)
    expected = target.use(case)
    for number in range(target.rounds):
        draw = random.Random(f"{name} {number}")
        shutil.rmtree(case)
        shutil.copytree(whole, case)
        path = draw.choice([p for pattern in target.files for p in files_of(case, pattern)])
        mutate(path, draw)
        found = outcome(target.use, case, expected=expected)
        counts[found if found in ("refused", "harmless") else "wrong"] += 1
        if found not in ("refused", "harmless"):
            wrong.append((number, str(path.relative_to(case)), found))
        owned = Path("owned")
        if owned.exists() or (case / "owned").exists():
            wrong.append((number, str(path.relative_to(case)), "runs code"))
    return counts, wrong


def recipes():
    """yaml -> how its command line is loaded."""
    found = {
        "brn_sum_tiny": lambda argv: load_experiment(argv, pretrain.OPTIONS, MODEL_OPTIONS),
        "rvq": lambda argv: load_experiment(argv, tokenizer.OPTIONS, MODEL_OPTIONS),
    }
    return found | {name: load_task for name in ALL_TASKS}


def fuzz_options(yaml):
    """Each key of a yaml with odd values, as a command line has them."""
    load, counts, wrong = recipes()[yaml], Counter(), []
    file = tiny.ROOT / f"hparams/{yaml}.yaml"
    lines = file.read_text().splitlines()
    keys = [line.partition(":")[0] for line in lines if line[:1].isalpha() and ":" in line]
    for number, key in enumerate(keys * 2):
        value = random.Random(f"{yaml} {number}").choice(OPTIONS)
        mel = ["--encoder", "mel"] if yaml in ALL_TASKS and key != "encoder" else []
        given = [str(file), *mel]
        found = outcome(lambda argv: load(argv) and None, [*given, f"--{key}", value])
        counts[found if found in ("refused", "harmless") else "wrong"] += 1
        if found not in ("refused", "harmless"):
            wrong.append((f"--{key} {value!r}", found))
    return counts, wrong


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_damaged_files(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where hostile code would write
    counts, wrong = fuzz_files(name, tmp_path / "work")
    assert not wrong, (counts, wrong[:20])


@pytest.mark.slow
@pytest.mark.parametrize("yaml", recipes())
def test_odd_options(yaml, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    counts, wrong = fuzz_options(yaml)
    assert not wrong, (counts, wrong[:20])
    assert not list(tmp_path.iterdir())  # loading writes nothing


def main():
    """Prints the table."""
    logging.disable()
    rows = {}
    with tempfile.TemporaryDirectory() as work:
        for name in TARGETS:
            rows[name], _ = fuzz_files(name, Path(work, name))
    rows["options"] = sum((fuzz_options(yaml)[0] for yaml in recipes()), Counter())
    print("| damaged | cases | refused in a sentence | harmless | anything else |")
    print("|---|---:|---:|---:|---:|")
    for name, counts in rows.items():
        kinds = (counts[kind] for kind in ("refused", "harmless", "wrong"))
        print(f"| {name} | {sum(counts.values())} | {' | '.join(map(str, kinds))} |")


if __name__ == "__main__":
    main()
