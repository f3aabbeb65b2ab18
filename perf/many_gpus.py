"""Estimate pre-training on many GPUs; docs/many_gpus.md explains the formula and the options."""

import argparse

OPTIONS = {
    # hparams/brn_sum.yaml on Music4All and FMA-large
    "parameters": 49_771_872,
    "batch_segments": 1024,
    "steps": 100_000,
    "corpus_hours": 1798.7,
    # assumptions; the first was measured, on an H100
    "tokens_per_second": 145_000.0,
    "gpus_per_node": 8,
    "intra_node_gb": 200.0,
    "inter_node_gb": 25.0,
    "read_seconds": 0.1,
    "audio_kilobytes": 40.0,
}
HEAD = """\
| GPUs | segments per GPU | sent per GPU and step | time per step | all-reduce share | \
audio per second | disk | reading cores | pass over the corpus | run |
|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"""


def estimate(gpus, o):
    """A row of the table; `o` has the `OPTIONS` as attributes."""
    audio = 30 * o.batch_segments
    sent_gb = 2 * (gpus - 1) / gpus * 4 * o.parameters / 1e9  # float32 gradients, a ring
    exchange = sent_gb / (o.intra_node_gb if gpus <= o.gpus_per_node else o.inter_node_gb)
    step = 25 * audio / (gpus * o.tokens_per_second) + exchange
    rate = audio / step
    return (
        f"| {gpus} | {o.batch_segments // gpus} | {sent_gb:.2f} GB | {step:.2g} s "
        f"| {exchange / step:.1%} | {rate / 3600:.1f} h "
        f"| {rate * o.audio_kilobytes / 1e6:.1f} GB/s | {rate / 30 * o.read_seconds:,.0f} "
        f"| {60 * o.corpus_hours / rate:.2g} min | {o.steps * step / 3600:.1f} h |"
    )


def main(argv=None):
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m perf.many_gpus", description=__doc__)
    parser.add_argument("--gpus", type=int, nargs="+", default=[8, 16, 32, 64, 128, 256])
    for name, default in OPTIONS.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{default:g}")
    o = parser.parse_args(argv)
    for name, value in vars(o).items():
        if not (min(value) if name == "gpus" else value) > 0:
            parser.error(f"{name} is {value}: it must be above 0")
    if indivisible := [gpus for gpus in o.gpus if o.batch_segments % gpus]:
        parser.error(
            f"gpus is {indivisible[0]}: use a divisor of batch_segments, {o.batch_segments}"
        )
    print(HEAD, *(estimate(gpus, o) for gpus in o.gpus), sep="\n")


if __name__ == "__main__":
    main()
