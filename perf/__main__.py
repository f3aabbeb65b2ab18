"""The command: `python -m perf [NAME ...] [--size full|quick|tiny] [--device cuda] ...`."""

import argparse
import shlex
import sys

import torch

from perf import SIZES, compression, data, embedding, growth, layers, report, steps
from perf.benchmark import measure
from speechbrain_music.nnet.precision import full_float32
from speechbrain_music.utils.errors import UserError, run_command
from speechbrain_music.utils.memory import keep_freed_memory

SECONDS = {"full": 60.0, "quick": 2.0, "tiny": 0.0}  # of timing, per benchmark
BENCHMARKS = {
    build.__name__: build
    for build in (layers.quantizer, layers.summary_mixing, layers.branchformer, layers.conformer)
    + (steps.step, growth.growth, data.data, embedding.embedding, embedding.search)
    + (compression.compression,)
}


def main(argv):
    """Measure benchmarks, write their pages where --out says, and print them."""
    parser = argparse.ArgumentParser(
        prog="python -m perf",
        description="Measure speed and memory against SpeechBrain and other encoders.",
        epilog=f"benchmarks: {', '.join(BENCHMARKS)}",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run (all)")
    parser.add_argument("--size", choices=SECONDS, default="full", help="of the work (full)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--seconds", type=float, help="of timing each (by size: 60, 2, 0)")
    parser.add_argument("--threads", type=int, metavar="N", help="of torch on a CPU (all cores)")
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        default="results/speed",
        help="for the pages and their JSON; other benchmarks in it are kept",
    )
    args = parser.parse_args(argv)
    if unknown := [name for name in args.names if name not in BENCHMARKS]:
        raise UserError(f"unknown benchmark {unknown[0]}: choose from {', '.join(BENCHMARKS)}")
    if args.threads is not None and args.threads < 1:
        raise UserError(f"threads is {args.threads}: it must be 1 or more")
    keep_freed_memory()
    torch.set_num_threads(args.threads or torch.get_num_threads())
    seconds = SECONDS[args.size] if args.seconds is None else args.seconds
    run = report.describe_run(shlex.join(["python", "-m", "perf", *argv]))
    for name in dict.fromkeys(args.names or BENCHMARKS):
        print(f"{name} ...", file=sys.stderr, flush=True)
        with full_float32(args.device):  # on all sides
            result = measure(BENCHMARKS[name], SIZES[name], args.size, args.device, seconds)
        print(report.write(args.out, args.device, name, result | {"run": run}, list(BENCHMARKS)))


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:])))
