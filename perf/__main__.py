"""The command: `python -m perf [NAME ...] [--size full|quick|tiny] [--device cuda] ...`."""

import argparse
import os
import shlex
import sys
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from time import perf_counter

SECONDS = {"full": 60.0, "quick": 2.0, "tiny": 0.0}  # of timing, per benchmark
OUT = "docs/results/speed"
BENCHMARKS = {  # name -> the module of perf whose function of that name it is
    "matmul": "layers",
    "quantizer": "layers",
    "summary_mixing": "layers",
    "branchformer": "layers",
    "conformer": "layers",
    "step": "steps",
    "parts": "steps",
    "growth": "growth",
    "data": "data",
    "probes": "probes",
    "sweep": "probes",
    "embedding": "embedding",
}
# These measure themselves; the others build a `Benchmark`.
COMPLETE = ("growth", "data", "sweep", "embedding")


def main(argv=None):
    """Measure benchmarks, print their tables and write them where --out says.

    Returns 0, also where a target is missed; 1 where candidates do not agree.
    """
    parser = argparse.ArgumentParser(
        prog="python -m perf",
        description="Measure speed and memory against SpeechBrain and other encoders.",
        epilog=f"benchmarks: {', '.join(BENCHMARKS)}",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="benchmarks to run (all)")
    parser.add_argument("--size", choices=SECONDS, default="full", help="of the work (full)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--seconds", type=float, help="of timing, per benchmark (by size: 60, 2, 0)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="of torch on a CPU (all cores)")
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help=f"for the pages and their JSON; other benchmarks in it are kept ({OUT} if the size is "
        "full, else nothing is written)",
    )
    argv = sys.argv[1:] if argv is None else argv
    args = parser.parse_args(argv)
    if unknown := [name for name in args.names if name not in BENCHMARKS]:
        parser.error(f"unknown benchmark {', '.join(unknown)}: choose from {', '.join(BENCHMARKS)}")
    names = list(dict.fromkeys(args.names)) or list(BENCHMARKS)
    if "embedding" in names and not find_spec("transformers"):
        parser.error("embedding needs transformers: install it, or name the other benchmarks")

    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # else torch's profiler warns about GPUs
    import torch  # it takes seconds, which --help need not wait for

    from perf import report
    from perf.benchmark import Mismatch, measure
    from speechbrain_music.nnet.precision import full_float32
    from speechbrain_music.utils.memory import keep_freed_memory

    keep_freed_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    seconds = SECONDS[args.size] if args.seconds is None else args.seconds
    run = report.describe_run(shlex.join(["python", "-m", "perf", *argv]), args.device)
    results = {}
    for name in names:
        function = getattr(import_module(f"perf.{BENCHMARKS[name]}"), name)
        run_benchmark = function if name in COMPLETE else partial(measure, function)
        start = perf_counter()
        print(f"{name} ...", end=" ", flush=True)
        try:
            with full_float32(args.device):  # on all sides
                results[name] = run_benchmark(args.size, args.device, seconds=seconds)
        except Mismatch as error:
            print(f"\nerror: {error}; no result of {name} is written", file=sys.stderr)
            continue
        results[name]["run"] = run
        print(f"{perf_counter() - start:.0f} s", flush=True)

    if results:
        print("\n" + "\n".join(report.pages({args.device: results}).values()))
        if folder := args.out or (OUT if args.size == "full" else None):
            report.write(folder, results, args.device)
    return int(len(results) < len(names))


if __name__ == "__main__":
    sys.exit(main())
