"""Compare compressed forms of an encoder: size, time, scores of tasks, similarity of the layers.

python experiments/compression.py EXPORT [--methods bf16 int8 layers:2 prune:0.5]
    [--encoders small=EXPORT student=EXPORT] [--tasks gtzan_genre ...] [--quick True ...]

Methods are those of `sbmusic compress`; --encoders are further ones as for recipes/marble.py, which
gets all other options. The same command continues after an interruption. Protocol: README.md.
"""

import json
import shlex
import sys
from functools import partial
from importlib import import_module
from pathlib import Path

import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode, mm_flop

from speechbrain_music.data_prep.manifest import read_manifest
from speechbrain_music.data_prep.replica.corpus import CorpusPlan, make_corpus
from speechbrain_music.dataio.audio import read_segment
from speechbrain_music.evaluation.tasks import existing_tasks
from speechbrain_music.metrics.resampling import holm
from speechbrain_music.models.compression import compress
from speechbrain_music.models.export import load_export, save_export
from speechbrain_music.models.frozen import make_encoders, name_specs
from speechbrain_music.models.frozen_encoder import fingerprint
from speechbrain_music.models.safe_folder import WEIGHTS
from speechbrain_music.reporting.pages import render
from speechbrain_music.reporting.pictures import picture
from speechbrain_music.utils.arguments import make_parser
from speechbrain_music.utils.atomic import write_together
from speechbrain_music.utils.errors import run_command

CLIPS, SECONDS = 8, 30  # composed clips; times are measured for as long as a clip
AXES = {"bytes": "bytes of weights", "macs": "MACs per second of audio"}  # of the picture
COUNTED = {torch.ops.aten._int_mm: mm_flop.__wrapped__}  # int8: torch has no count


def measure(encoders, clips):
    """Name -> costs of an encoder, of several seeds the first, and the similarity of its layers.

    `macs` are per second of audio, `memory` is by how much loading and embedding a clip raise the
    peak, `latency` threads -> seconds of embedding a clip, `cka` with the first encoder's layers.
    """
    benchmark, found, calls, original = import_module("perf.benchmark"), {}, {}, ()
    for name, spec in encoders.items():
        spec = spec if isinstance(spec, str) else spec[0]
        encoder = make_encoders(spec)[0]
        waves = [torch.from_numpy(read_segment(c, 0, None, encoder.sample_rate)) for c in clips]
        waves, samples = torch.stack(waves), torch.tensor(list(map(len, waves)))
        layers = encoder.frames(waves, samples)[0].flatten(0, 1).unbind(1)
        original = original or layers
        clip = waves[:1], samples[:1]
        calls[name] = partial(encoder, *clip)
        with FlopCounterMode(display=False, custom_mapping=COUNTED) as counter:
            calls[name]()
        weights = Path(spec if Path(spec).exists() else spec.partition(":")[2]) / WEIGHTS
        pairs = zip(layers, original, strict=False)
        found[name] = benchmark.describe_model(encoder, encoder.frame_rate, spec) | {
            "bytes": weights.stat().st_size if weights.exists() else None,
            "macs": counter.get_total_flops() / 2 / SECONDS,
            "memory": benchmark.peak_growth(lambda s=spec, c=clip: make_encoders(s)[0](*c)),
            "latency": {},
            "cka": [linear_cka(x, y) for x, y in pairs if len(x) == len(y)],
        }
    for threads in dict.fromkeys((1, torch.get_num_threads())):
        torch.set_num_threads(threads)
        for name, times in benchmark.time_interleaved(calls, SECONDS).items():
            found[name]["latency"][str(threads)] = pd.Series(times).describe([0.5, 0.95]).to_dict()
    return found


def linear_cka(x, y):
    """Linear centred kernel alignment of (N, d) and (N, e) states of the same frames: 0 to 1.

    Source: Kornblith et al., "Similarity of Neural Network Representations", arXiv 1905.00414.
    """
    x, y = (side.double() - side.double().mean(0) for side in (x, y))
    return float((x.T @ y).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm()))


def draw(path, rows):
    """Draws scores with intervals against bytes and MACs; the line is the best up to each cost."""
    with picture(path, (14, 5)) as figure:
        for axes, (key, label) in zip(figure.subplots(1, 2), AXES.items(), strict=True):
            points = sorted(
                (of[key], of["score"]["mean"], name) for name, of in rows.items() if of[key]
            )
            costs, scores, names = zip(*points, strict=True)
            axes.step(costs, pd.Series(scores).cummax(), "k:", where="post")
            for name, cost, score in zip(names, costs, scores, strict=True):
                ends = [score - rows[name]["score"]["low"]], [rows[name]["score"]["high"] - score]
                mark = "o" if (place := [*rows].index(name)) < 10 else "s"
                axes.errorbar(cost, score, ends, fmt=f"{mark}C{place}", capsize=4, label=name)
            axes.set(xlabel=label, ylabel="score over tasks")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside right upper")


def main(argv):
    """Measures, evaluates, and writes the table and the picture; see the head of this file."""
    args, others = make_parser(__file__, __doc__).parse_known_args(argv)
    root = Path(__file__).parents[1]
    existing_tasks(args.tasks, root)
    sys.path.insert(0, str(root))  # for perf and recipes
    model, specs = load_export(args.export), [f"original={args.export}"]
    for method in args.methods:
        folder = args.out / "exports" / method
        save_export(folder, compress(model, method), model.features, compression=method)
        specs.append(f"{method}={folder}")
    specs += [*args.encoders, f"random=random:{args.export}", "mel"]
    encoders, music = name_specs(specs), args.out / "clips"
    plan = CorpusPlan(seed=2000, shortest=SECONDS, longest=SECONDS)  # as no training corpus
    clips = read_manifest(make_corpus(music, CLIPS * SECONDS / 3600, plan), music)["wav"]
    compared = {name: make_encoders(spec)[0].identity for name, spec in encoders.items()}
    path = args.out / f"costs-{fingerprint(compared, {})}.json"
    if not path.exists():
        run = import_module("perf.report").describe_run(f"python {shlex.join(sys.argv)}")
        write_together({path: json.dumps({"run": run, "encoders": measure(encoders, clips)})})
    stored = json.loads(path.read_text(encoding="utf-8"))
    words = ["--encoders", *specs, "--tasks", *args.tasks, "--out", str(args.out), *others]
    import_module("recipes.marble").main(words)
    marble = json.loads((args.out / "marble.json").read_text(encoding="utf-8"))
    rows = stored["encoders"]
    for name, score in marble["overall"].items():
        rows[name]["score"] = score
    pairs = {pair["second"]: pair for pair in marble["pairs"] if pair["first"] == "original"}
    adjusted = holm({name: pair["all tasks"]["p"] for name, pair in pairs.items()})
    for name, pair in pairs.items():
        rows[name]["loss"] = pair["all tasks"] | {"p": adjusted[name], "tasks": pair["tasks"]}
    stored |= {"tasks": args.tasks, "clips": CLIPS, "seconds": SECONDS}
    page = render(Path(__file__).with_name("templates") / "compression.md", **stored)
    draw(args.out / "pareto.png", rows)
    dump = json.dumps(stored, indent=1) + "\n"
    write_together({args.out / "compression.md": page, args.out / "compression.json": dump})
    print(page)


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:])))
