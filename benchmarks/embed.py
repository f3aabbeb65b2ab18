"""Embedding a file beside peers, end to end: `python -m benchmarks.embed [--rounds N] ...`.

Every contender reads the same FLAC file by the segment, mixes it down, resamples it to its own
rate, computes the segments as one batch and keeps the mean of its last hidden state over time.
Weights are random: speed does not depend on them.
"""

import argparse
import os
import shlex
import sys
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import soundfile
import torch

from benchmarks import contest, report
from benchmarks.contest import Claim, Contest
from benchmarks.peers import PEERS
from benchmarks.timing import MIN_ROUNDS
from benchmarks.training import HPARAMS
from speechbrain_music.dataio.audio import read_segments
from speechbrain_music.inference import MusicEncoder
from speechbrain_music.models.export import load_export, save_export
from speechbrain_music.models.frontend import TOKEN_RATE
from speechbrain_music.models.frozen import make_encoders
from speechbrain_music.utils.errors import run_command
from speechbrain_music.utils.memory import keep_freed_memory

SYSTEMS = ("brn_sum", "brn_att", "cnf_sum", "cnf_att")
RIVALS = ("Wav2Vec2Conformer", "MERT-like")
REACH = 8  # times the faster rival, by brn_sum
FILE_RATE = 44100
OURS = "`hparams/{name}.yaml`, through `MusicEncoder.encode_files`, as `sbmusic embed` does it."

HEADER = """# Embedding beside peers

Written by `{command}` on {date}; every figure is in `EMBED.json`.
Machine: {machine}.

Seconds of audio that are embedded in a second, end to end: each contender reads {segments} of the
same 44.1 kHz stereo FLAC file with the same code, mixes down, resamples to its own rate, computes
one batch in float32, and keeps the mean of its last hidden state over time. Loading a model is not
timed. Weights are random. Contenders share one process and its threads, and take turns; figures are
medians over rounds (here {rounds}) with quartiles, a ratio is taken within a round. Memory, where
it was measured, is how far a fresh process's peak grows while it loads the model and embeds once.

| model | parameters | tokens a second of audio | audio seconds a second | beside {rival} | memory |
|---|---:|---:|---:|---:|---:|
"""


def embedding(size="full", device="cpu", folder=".", seconds=30.0, batch=1, memory=False):
    """The contest, for `benchmarks.contest.measure`; a model is loaded when it is first called.

    Arguments
    ---------
    size : str
        "full" or "tiny".
    device : str
        "cpu" or "cuda".
    folder : path
        Where the file to embed and the exports are, or are put.
    seconds : float
        Of a segment: a multiple of 0.04.
    batch : int
        Segments in the file, and in a batch.
    memory : bool
        Whether it is claimed, and so measured, too.

    Returns
    -------
    Contest
        A contender returns embeddings: a peer (batch, D), ours the file's, (D,).
    """
    folder = Path(folder, size)
    music = folder / "music.flac"
    if not music.exists():
        folder.mkdir(parents=True, exist_ok=True)
        soundfile.write(music, play(batch * seconds), FILE_RATE)
    for name in SYSTEMS:
        if not (folder / name).exists():
            suffix = "" if size == "full" else "_tiny"
            model = make_encoders(f"random:{HPARAMS / name}{suffix}.yaml")[0].model
            save_export(folder / name, model.encoder, model.features)
    makers = {
        name: partial(_peer, peer, size, device, music, seconds, batch)
        for name, peer in PEERS.items()
    }
    makers |= {
        name: partial(_ours, folder / name, device, music, seconds, batch) for name in SYSTEMS
    }
    reach = {("brn_sum", "time"): REACH}
    return Contest(
        {name: _at_first_call(make) for name, make in makers.items()},
        [
            Claim(f"{name} beside {rival}", name, rival, reach.get((name, of)), of)
            for name in makers
            for rival in RIVALS
            for of in ("time", "memory")[: 1 + memory]
            if name != rival
        ],
    )


def _at_first_call(make):
    made = cache(make)
    return lambda: made()()


def _peer(peer, size, device, music, seconds, batch):
    model = peer.build(size).eval().to(device)
    length = round(seconds * peer.sample_rate)
    places = [(index * length, length) for index in range(batch)]

    @torch.no_grad()
    def embed():
        waves = np.stack(list(read_segments(music, places, peer.sample_rate)))
        return model(torch.from_numpy(waves).to(device)).mean(1).cpu().numpy()

    return embed


def _ours(export, device, music, seconds, batch):
    encoder = MusicEncoder.from_export(export, device=device)

    def embed():
        [(_, embedding)] = encoder.encode_files([music], chunk=seconds, batch_size=batch)
        return embedding.values

    return embed


def play(seconds, seed=0):
    """Notes of half a second with four partials, and noise: (samples, 2) at 44.1 kHz."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * FILE_RATE)) / FILE_RATE
    pitches = 440 * 2 ** (rng.integers(-24, 8, int(2 * seconds) + 1) / 12)
    phase = 2 * np.pi * np.cumsum(pitches[(2 * time).astype(int)]) / FILE_RATE
    notes = sum(np.sin(k * phase) / k for k in range(1, 5)) * np.exp(-2 * (time % 0.5))
    return notes[:, None] * [0.1, 0.2] + 0.003 * rng.standard_normal((len(time), 2))


def describe(folder, size="full"):
    """What the contenders of `embedding` in that folder are: name -> facts of a row."""
    models = {}
    for name, peer in PEERS.items():
        with torch.device("meta"):
            models[name] = _facts(peer.build(size), peer.token_rate, peer.what)
    for name in SYSTEMS:
        model = load_export(Path(folder, size, name))
        models[name] = _facts(model, TOKEN_RATE, OURS.format(name=name))
    return models


def _facts(model, token_rate, what):
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return {"parameters": parameters, "token_rate": token_rate, "what": what}


def table(row, models, facts, command, seconds, batch):
    """EMBED.md as text.

    Arguments
    ---------
    row : dict
        What `contest.measure` returned.
    models : dict
        Of `describe`.
    facts, command
        As for `report.table`.
    seconds, batch
        As for `embedding`.
    """
    rival = min(RIVALS, key=lambda name: row["seconds"][name]["median"])
    beside = {c["ours"]: c for c in row["claims"] if (c["theirs"], c["of"]) == (rival, "time")}
    text = HEADER.format(
        command=command,
        date=report.today(),
        machine=report.in_words(facts),
        segments=f"{batch} x {seconds:g} s",
        rounds=row["rounds"],
        rival=rival,
    )
    for name, model in models.items():
        took = row["seconds"][name]  # whose upper quartile is the lower one of the speed
        speed, low, high = (batch * seconds / took[key] for key in ("median", "upper", "lower"))
        text += (
            f"| {name} | {model['parameters'] / 1e6:.1f} M | {model['token_rate']} | "
            f"{speed:.1f} ({low:.1f} to {high:.1f}) | "
            f"{report.ratio(beside[name]) if name in beside else 1} | "
            f"{_memory(row, name)} |\n"
        )
    claim = beside["brn_sum"]
    verdict = "it does" if claim["met"] else "it does not"
    text += (
        f"\nbrn_sum is to reach {REACH} times the faster of {' and '.join(RIVALS)}: {verdict}.\n"
    )
    if not claim["met"]:
        text += "\n" + report.cause(claim, row["shares"]["brn_sum"]) + "\n"
    return text + "\n" + "".join(f"- {name}: {model['what']}\n" for name, model in models.items())


def _memory(row, name):
    return f"{row['extra_bytes'][name] / 2**30:.1f} GiB" if name in row["extra_bytes"] else ""


def main(argv=None):
    """Measures, prints the table, writes it where --out says.

    Arguments
    ---------
    argv : list of str, optional
        Instead of the command line.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.embed",
        description="Measure the embedding of a file beside peers, in one run.",
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="of a segment (30)")
    parser.add_argument("--batch", type=int, default=1, help="segments in a batch (1)")
    parser.add_argument(
        "--rounds", type=int, default=MIN_ROUNDS, help=f"after a warm-up ({MIN_ROUNDS})"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, metavar="N", help="of torch on a CPU (all cores)")
    parser.add_argument("--memory", action="store_true", help="too: a process for each contender")
    parser.add_argument("--tiny", action="store_true", help="small models: whether it runs at all")
    parser.add_argument(
        "--out", metavar="FOLDER", help="where EMBED.md and EMBED.json go (nowhere)"
    )
    argv = sys.argv[1:] if argv is None else argv
    args = parser.parse_args(argv)

    keep_freed_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    size = "tiny" if args.tiny else "full"
    facts = report.machine(args.device) | {"transformers": version("transformers")}
    print("measuring ...", flush=True)
    with TemporaryDirectory() as folder:
        build = partial(
            embedding,
            folder=folder,
            seconds=args.seconds,
            batch=args.batch,
            memory=args.memory,
        )
        row = contest.measure(build, size, args.device, 0, args.rounds)
        models = describe(folder, size)
    command = shlex.join(["python", "-m", "benchmarks.embed", *argv])
    text = table(row, models, facts, command, args.seconds, args.batch)
    print(text)
    if args.out:
        figures = {"seconds": args.seconds, "batch": args.batch, "models": models, "row": row}
        report.write_pair(args.out, ("EMBED.md", "EMBED.json"), text, facts, command, **figures)


if __name__ == "__main__":
    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # else torch's profiler misses a GPU aloud
    sys.exit(run_command(main))
