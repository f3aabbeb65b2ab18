"""What a row is: contenders for the same work, a check that it is the same, ratios to reach."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.timing import MIN_ROUNDS, Spread, extra_memory, side_by_side

PRODUCTS = "matrix products"


class Disagreement(AssertionError):
    """Contenders that should give the same do not: their times say nothing."""


def fold(device):
    """How many times a CPU's batch a row takes: few items keep a GPU waiting for what calls it.

    Example
    -------
    >>> fold("cpu"), fold("cuda")
    (1, 8)
    """
    return 8 if device == "cuda" else 1


AT_LEAST, AT_MOST = ">=", "<="  # bounds of a ratio


class Claim(NamedTuple):
    """A ratio that is to reach something; `reach` None is for information.

    With the bound AT_LEAST it is theirs / ours, the more the better; with AT_MOST it is
    ours / theirs, the less the better.
    """

    what: str
    ours: str
    theirs: str
    reach: float | None = None
    of: str = "time"  # or "memory"
    bound: str = AT_LEAST


@dataclass(frozen=True)
class Contest:
    """What a builder of `benchmarks.rows` returns.

    Arguments
    ---------
    contenders : dict
        Name -> function without arguments that does the work once.
    claims : list of Claim
        What is compared.
    check : callable
        Takes `contenders`, raises `Disagreement` where they should agree and do not.
    flops : dict
        Contender -> floating point operations of its matrix products, for a rate.
    sums : dict
        Name -> contenders whose times, added up within a round, a claim can be about.
    note : str
        What a reader must know of the row.
    """

    contenders: dict[str, Callable]
    claims: list[Claim] = field(default_factory=list)
    check: Callable[[dict], None] = lambda contenders: None
    flops: dict[str, int] = field(default_factory=dict)
    sums: dict[str, list] = field(default_factory=dict)
    note: str = ""


def measure(build, size="full", device="cpu", seconds=60.0, min_rounds=MIN_ROUNDS):
    """Checks and measures one row.

    Arguments
    ---------
    build : callable
        Takes a size and a device, returns a `Contest`; defined in a module, because memory is
        measured in a process of its own.
    size : str
        "full", "quick" or "tiny".
    device : str
        "cpu" or "cuda".
    seconds : float
        About how long to measure time.
    min_rounds : int
        As for `side_by_side`.

    Returns
    -------
    dict
        seconds, rounds, gflops, extra_bytes by contender; claims with their ratios; the note; and
        for a claim of time that is not reached, where ours spends it.

    Raises
    ------
    Disagreement
        If contenders do not give the same where they should.
    """
    contest = build(size, device)
    contest.check(contest.contenders)
    times = side_by_side(contest.contenders, seconds, device, min_rounds)
    rounds = len(next(iter(times.values())))
    for name, parts in contest.sums.items():
        times[name] = [sum(times[part][index] for part in parts) for index in range(rounds)]
    weighed = [claim for claim in contest.claims if claim.of == "memory"]
    needed = {name for claim in weighed for name in (claim.ours, claim.theirs)}
    extra = {name: extra_memory(build, name, size, device) for name in sorted(needed)}
    claims = [settle(claim, times, extra) for claim in contest.claims]
    short = {
        claim["ours"]
        for claim in claims
        if (claim["met"], claim["of"], claim["bound"]) == (False, "time", AT_LEAST)
    }
    spreads = {name: Spread.of(samples) for name, samples in times.items()}
    return {
        "seconds": {name: spread._asdict() for name, spread in spreads.items()},
        "rounds": rounds,
        "gflops": {name: n / spreads[name].median / 1e9 for name, n in contest.flops.items()},
        "extra_bytes": extra,
        "claims": claims,
        "note": contest.note,
        "shares": {name: shares(contest.contenders[name], device) for name in short},
    }


def settle(claim, times, extra=None):
    """A claim's ratio, and whether it is met.

    Arguments
    ---------
    claim : Claim
        Of two names.
    times : dict
        Name -> seconds, one a round.
    extra : dict, optional
        Name -> bytes.

    Returns
    -------
    dict
        The claim's fields, ratio (a Spread's; None where one of the two was not measured) and met
        (None where nothing is to be reached).

    Example
    -------
    >>> claim = Claim("reading", "file", "resampler", 4, bound=AT_MOST)
    >>> settled = settle(claim, {"file": [3.0, 6.0, 3.0], "resampler": [1.0, 2.0, 1.0]})
    >>> settled["ratio"]["median"], settled["met"]
    (3.0, True)
    """
    measured = (extra if claim.of == "memory" else times) or {}
    above, below = (claim.theirs, claim.ours)[:: 1 if claim.bound == AT_LEAST else -1]
    if above not in measured or below not in measured:
        ratio = None
    elif claim.of == "memory":
        ratio = Spread(*[extra[above] / max(extra[below], 1)] * 3)
    else:
        ratio = Spread.of([a / b for a, b in zip(times[above], times[below], strict=True)])
    if claim.reach is None:
        met = None
    elif ratio is None:
        met = False
    elif claim.bound == AT_LEAST:
        met = ratio.median >= claim.reach
    else:
        met = ratio.median <= claim.reach
    return {**claim._asdict(), "ratio": ratio and ratio._asdict(), "met": met}


def shares(call, device="cpu", top=6):
    """Shares of a call's time by torch operation, matrix products as one, the largest first.

    Example
    -------
    >>> import torch
    >>> x = torch.ones(256, 256)
    >>> list(shares(lambda: x @ x, top=1))
    ['matrix products']
    """
    call()
    gpu = device == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * gpu
    with profile(activities=activities, acc_events=True) as profiler:
        call()
    spent = Counter()
    for event in profiler.key_averages():
        if event.device_type != DeviceType.CPU:
            continue  # a kernel, whose time its operation has too
        name = event.key.removeprefix("aten::")
        time = event.self_device_time_total if gpu else event.self_cpu_time_total
        spent[PRODUCTS if name in ("mm", "addmm", "bmm", "baddbmm") else name] += time
    total = spent.total() or 1
    return {name: time / total for name, time in spent.most_common(top)}
