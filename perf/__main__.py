"""The command: `python -m perf [NAME ...] [--size full|quick|tiny] [--device cuda] ...`."""

import argparse
import shlex
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

SECONDS = {"full": 60.0, "quick": 2.0, "tiny": 0.0}  # of timing, per benchmark
OUT = "docs/results/speed"
MODULES = {  # of perf -> its benchmarks; a function of that name builds each
    "layers": ("matmul", "quantizer", "summary_mixing", "branchformer", "conformer"),
    "steps": ("step", "targets"),
    "growth": ("growth",),
    "data": ("data",),
    "embedding": ("embedding",),
}
BENCHMARKS = {name: module for module, names in MODULES.items() for name in names}


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
    parser.add_argument("--seconds", type=float, help="of timing each (by size: 60, 2, 0)")
    parser.add_argument("--threads", type=int, metavar="N", help="of torch on a CPU (all cores)")
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help=f"for the pages and their JSON; other benchmarks in it are kept ({OUT} if the size is "
        "full, else nothing is written)",
    )
    argv = sys.argv[1:] if argv is None else argv
    args = parser.parse_args(argv)
    if args.threads is not None and args.threads < 1:
        parser.error(f"--threads is {args.threads}: it must be 1 or more")
    if args.seconds is not None and not 0 <= args.seconds < 86400:
        parser.error(f"--seconds is {args.seconds:g}: it must be 0 to 86400")
    if args.out == "" or args.out and Path(args.out).is_file():
        parser.error(f"--out is {args.out!r}: it must be a folder")
    if unknown := [name for name in args.names if name not in BENCHMARKS]:
        parser.error(f"unknown benchmark {', '.join(unknown)}: choose from {', '.join(BENCHMARKS)}")
    names = list(dict.fromkeys(args.names)) or list(BENCHMARKS)
    if "embedding" in names and not find_spec("transformers"):
        parser.error("embedding needs transformers: install it, or name the other benchmarks")

    import torch  # it takes seconds, which --help need not wait for

    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch finds no GPU here, use cpu")
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
        build = getattr(import_module(f"perf.{BENCHMARKS[name]}"), name)
        print(f"{name} ...", flush=True)
        try:
            with full_float32(args.device):  # on all sides
                results[name] = measure(build, args.size, args.device, seconds) | {"run": run}
        except Mismatch as error:
            print(f"error: {error}; no result of {name} is written", file=sys.stderr)
    if results:
        print(*report.pages({args.device: results}).values(), sep="\n")
        if folder := args.out or (OUT if args.size == "full" else None):
            report.write(folder, results, args.device, BENCHMARKS)
    return int(len(results) < len(names))


if __name__ == "__main__":
    sys.exit(main())
