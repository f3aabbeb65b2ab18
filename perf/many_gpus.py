"""Estimate pre-training on many GPUs by the formula of docs/many_gpus.md.

`python -m perf.many_gpus [--gpus 8 16] [--tokens_per_second N] ...` prints its table.
"""

import argparse
import sys

GPUS = (8, 16, 32, 64, 128, 256)
OPTIONS = {  # name -> default, meaning; the first four describe hparams/brn_sum.yaml
    "parameters": (49_771_872, "that are trained"),
    "batch_segments": (1024, "segments of 30 s per optimizer step"),
    "steps": (100_000, "optimizer steps"),
    "corpus_hours": (1798.7, "hours of audio (Music4All and FMA-large: 215,843 clips of 30 s)"),
    "tokens_per_second": (145_000.0, "of one GPU, forward and backward (measured: an H100)"),
    "gpus_per_node": (8, "GPUs of a machine"),
    "intra_node_gb": (200.0, "GB/s per GPU of all-reduce inside a machine"),
    "inter_node_gb": (25.0, "GB/s between machines (25 is 200 Gbit/s)"),
    "read_seconds": (0.1, "of one core, to read a segment"),
    "audio_kilobytes": (40.0, "on disk per second of audio (40 is mp3 of 320 kbit/s)"),
}
HEAD = """\
| GPUs | segments per GPU | sent per GPU and step | time per step | all-reduce share | \
audio per second | disk | reading cores | pass over the corpus | run |
|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"""
ROW = (
    "| {gpus} | {segments:g} | {sent_gb:.2f} GB | {step:.2g} s | {share:.1%} | {audio_hours:.1f} h "
    "| {disk_gb:.1f} GB/s | {cores:,.0f} | {pass_minutes:.2g} min | {run_hours:.1f} h |"
)


def estimate(gpus, o):
    """The quantities of a table row; `o` has the `OPTIONS` as attributes."""
    for name, value in {"gpus": gpus, **vars(o)}.items():
        if not value > 0:
            raise ValueError(f"{name} is {value}: it must be above 0")
    if o.batch_segments % gpus:
        raise ValueError(f"gpus is {gpus}: use a divisor of batch_segments, {o.batch_segments}")
    audio = 30 * o.batch_segments
    sent_gb = 2 * (gpus - 1) / gpus * 4 * o.parameters / 1e9  # float32 gradients, a ring
    exchange = sent_gb / (o.intra_node_gb if gpus <= o.gpus_per_node else o.inter_node_gb)
    step = 25 * audio / (gpus * o.tokens_per_second) + exchange
    return {
        "gpus": gpus,
        "segments": o.batch_segments / gpus,
        "sent_gb": sent_gb,
        "step": step,
        "share": exchange / step,
        "audio_hours": audio / step / 3600,
        "disk_gb": audio / step * o.audio_kilobytes / 1e6,
        "cores": o.batch_segments / step * o.read_seconds,
        "pass_minutes": 60 * o.corpus_hours * step / audio,
        "run_hours": o.steps * step / 3600,
    }


def main(argv=None):
    """Print the table; options have the defaults of `OPTIONS`."""
    parser = argparse.ArgumentParser(prog="python -m perf.many_gpus", description=__doc__)
    parser.add_argument("--gpus", type=int, nargs="+", default=GPUS, metavar="N")
    for name, (default, meaning) in OPTIONS.items():
        text = f"{meaning} ({default:g})"
        parser.add_argument(f"--{name}", type=type(default), default=default, help=text)
    options = parser.parse_args(argv)
    gpus = vars(options).pop("gpus")
    try:
        rows = [ROW.format(**estimate(number, options)) for number in gpus]
    except ValueError as error:
        parser.error(str(error))
    print(HEAD, *rows, sep="\n")


if __name__ == "__main__":
    sys.exit(main())
