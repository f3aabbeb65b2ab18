"""The one runner: `python -m benchmarks [row ...] [--size full|quick|tiny] ...`."""

import argparse
import os
import shlex
import sys
from time import perf_counter

from benchmarks import ROWS

SECONDS = {"full": 60.0, "quick": 2.0, "tiny": 0.0}  # of time measurements, a row
OUT = "benchmarks"


def main(argv=None):
    """Measures rows, prints the table, writes it where --out says.

    A row that is measured alone takes its place among those that were written before.

    Arguments
    ---------
    argv : list of str, optional
        Instead of the command line.

    Returns
    -------
    int
        0, also where a ratio is not reached: that is a result. 1 where contenders disagree.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure speed and memory beside peers, side by side in one run.",
        epilog=f"rows: {', '.join(ROWS)}",
    )
    parser.add_argument("rows", nargs="*", metavar="row", help="which to measure (all)")
    parser.add_argument(
        "--size", choices=SECONDS, default="full", help="less than full is only a look (full)"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument(
        "--seconds", type=float, help="about how long to time a row (by size: 60, 2, 0)"
    )
    parser.add_argument("--threads", type=int, metavar="N", help="of torch on a CPU (all cores)")
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help="where RESULTS.md, results.json and growth's files go (benchmarks; what is not full "
        "is only printed)",
    )
    argv = sys.argv[1:] if argv is None else argv
    args = parser.parse_args(argv)
    if unknown := [name for name in args.rows if name not in ROWS]:
        parser.error(f"there is no row {', '.join(unknown)}: choose from {', '.join(ROWS)}")

    os.environ.setdefault("KINETO_LOG_LEVEL", "5")  # else torch's profiler misses a GPU aloud
    import torch  # and speechbrain below: seconds that --help need not wait for

    from benchmarks import contest, pages, registry, report
    from speechbrain_music.nnet.precision import full_float32
    from speechbrain_music.utils.memory import keep_freed_memory

    keep_freed_memory()
    if args.threads:
        torch.set_num_threads(args.threads)
    seconds = SECONDS[args.size] if args.seconds is None else args.seconds
    facts, results = report.machine(args.device), {}
    rows = args.rows or ROWS
    for name in rows:
        start = perf_counter()
        print(f"{name} ...", end=" ", flush=True)
        try:
            measure = registry.MEASURES[name]
            with full_float32(args.device):  # on all sides
                results[name] = measure(args.size, args.device, seconds=seconds)
        except contest.Disagreement as error:
            print(f"\nerror: {error}; of {name} nothing is written", file=sys.stderr)
            continue
        print(f"{perf_counter() - start:.0f} s", flush=True)

    if not results:
        return 1
    command = shlex.join(["python", "-m", "benchmarks", *argv])
    print("\n" + report.table(results, facts, command, args.device))
    folder = args.out or (OUT if args.size == "full" else None)
    if folder:
        report.write(folder, results, facts, command, args.device)
    if folder == OUT:
        pages.refresh()
    return int(set(results) < set(rows))


if __name__ == "__main__":
    sys.exit(main())
