"""The command: `python -m perf [NAME ...] [--size full|quick|tiny] [--device cuda] ...`."""

import shlex
import sys

import torch

import perf
from perf import data, embedding, growth, layers, report, training
from perf.benchmark import measure
from speechbrain_music.nnet.precision import full_float32
from speechbrain_music.utils.arguments import make_parser
from speechbrain_music.utils.errors import UserError, run_command
from speechbrain_music.utils.memory import keep_freed_memory

SECONDS = {"full": 60.0, "quick": 2.0, "tiny": 0.0}  # of timing, per benchmark
BENCHMARKS = {
    build.__name__: build
    for build in (layers.quantizer, layers.summary_mixing, layers.branchformer, layers.conformer)
    + (training.step, growth.growth, data.data)
    + (embedding.embedding, embedding.streaming, embedding.search)
}


def main(argv):
    """Measure benchmarks, write their pages where --out says, and print them."""
    names = f"benchmarks: {', '.join(BENCHMARKS)}"
    parser = make_parser(__file__, perf.__doc__, prog="python -m perf", epilog=names)
    args = parser.parse_args(argv)
    if unknown := [name for name in args.names if name not in BENCHMARKS]:
        raise UserError(f"unknown benchmark {unknown[0]}: choose from {', '.join(BENCHMARKS)}")
    keep_freed_memory()
    torch.set_num_threads(args.threads or torch.get_num_threads())
    seconds = SECONDS[args.size] if args.seconds is None else args.seconds
    run = report.describe_run(shlex.join(["python", "-m", "perf", *argv]))
    for name in dict.fromkeys(args.names or BENCHMARKS):
        print(f"{name} ...", file=sys.stderr, flush=True)
        with full_float32(args.device):  # on all sides
            result = measure(name, BENCHMARKS[name], args.size, args.device, seconds)
        print(report.write(args.out, args.device, name, result | {"run": run}, list(BENCHMARKS)))


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:])))
