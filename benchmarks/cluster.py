"""A simulation on paper of training on many GPUs: `python -m benchmarks.cluster [--option ...]`.

Arithmetic from assumptions that it prints; only the pace of one GPU was measured, elsewhere.
"""

import argparse
import sys
from typing import NamedTuple

GPUS = (8, 16, 32, 64, 128, 256)
# hparams/brn_sum.yaml and the frame grid; a test holds them to it.
SYSTEM, STEP_SEGMENTS, SEGMENT_SECONDS, STEPS, TOKEN_RATE = "brn_sum", 1024, 30, 100_000, 25
CLIPS = {"Music4All": 109_269, "FMA-large": 106_574}  # of 30 s
GRADIENT_BYTES = 4  # float32, also where bfloat16 computes


class Assumptions(NamedTuple):
    """What is not known until it is measured, each an option of the command.

    The tokens a second are those of one H100, see docs/reproducing.md.

    Example
    -------
    >>> Assumptions(tokens_per_second=1000.0).tokens_per_second
    1000.0
    """

    tokens_per_second: float = 145_000.0
    gpus_per_machine: int = 8
    inside_gb: float = 200.0
    between_gb: float = 25.0
    read_seconds: float = 0.1
    kilobytes: float = 40.0


ASSUMED = Assumptions()
MEANING = {  # of each, as an option
    "--tokens_per_second": "of one GPU, forward and backward",
    "--gpus_per_machine": "GPUs of a machine",
    "--inside_gb": "GB/s that all-reduce sends from a GPU to the next one inside a machine",
    "--between_gb": "GB/s that a machine sends to the next one (25 is 200 Gbit/s)",
    "--read_seconds": "of one core, to read a segment of 30 s",
    "--kilobytes": "kB on disk of a second of audio (40 is mp3 of 320 kbit/s)",
}


class Cluster(NamedTuple):
    """What a number of GPUs comes to; hours are those of the wall clock.

    Example
    -------
    >>> simulate(64, parameters=50_000_000).segments
    16.0
    """

    gpus: int
    segments: float  # that each takes of a step
    sent_bytes: float  # that each sends in a step's all-reduce
    exchange_seconds: float  # of a step's all-reduce
    step_seconds: float
    audio_rate: float  # seconds of audio in a second
    disk_bytes: float  # in a second
    cores: float  # that read
    pass_hours: float  # over the corpora, once
    run_hours: float


def simulate(gpus, parameters, assumed=ASSUMED):
    """What a number of GPUs comes to, by arithmetic.

    A step's time is computing and then all-reduce, of which real ones hide a part behind the
    backward pass. All-reduce is a ring: each GPU sends 2 (G - 1) / G times the gradients, at the
    pace of the slowest link; delays are left out.

    Arguments
    ---------
    gpus : int
        Each computes.
    parameters : int
        That are trained.
    assumed : Assumptions
        The rest.

    Returns
    -------
    Cluster

    Raises
    ------
    ValueError
        If a step's segments do not divide by the GPUs, or a value is not above 0.

    Example
    -------
    >>> alone, many = (simulate(gpus, parameters=50_000_000) for gpus in (1, 256))
    >>> alone.sent_bytes, round(alone.step_seconds, 1)
    (0.0, 5.3)
    >>> 1 < alone.run_hours / many.run_hours < 256
    True
    """
    for name, value in {"gpus": gpus, "parameters": parameters, **assumed._asdict()}.items():
        if not value > 0:
            raise ValueError(f"{name} is {value}: it must be above 0")
    if STEP_SEGMENTS % gpus:
        raise ValueError(
            f"gpus is {gpus}: take a divisor of the {STEP_SEGMENTS} segments of a step"
        )
    audio = STEP_SEGMENTS * SEGMENT_SECONDS
    sent = 2 * (gpus - 1) / gpus * GRADIENT_BYTES * parameters
    link = assumed.inside_gb if gpus <= assumed.gpus_per_machine else assumed.between_gb
    exchange = sent / (link * 1e9)
    step = audio * TOKEN_RATE / (gpus * assumed.tokens_per_second) + exchange
    rate = audio / step
    return Cluster(
        gpus=gpus,
        segments=STEP_SEGMENTS / gpus,
        sent_bytes=sent,
        exchange_seconds=exchange,
        step_seconds=step,
        audio_rate=rate,
        disk_bytes=rate * assumed.kilobytes * 1e3,
        cores=rate / SEGMENT_SECONDS * assumed.read_seconds,
        pass_hours=corpus_hours() / rate,
        run_hours=STEPS * step / 3600,
    )


def corpus_hours():
    """Hours of audio in the corpora.

    Example
    -------
    >>> round(corpus_hours())
    1799
    """
    return sum(CLIPS.values()) * 30 / 3600


HEADER = """\
| GPUs | segments each, of a step's {segments:,} | all-reduce, each sends a step | a step | of it \
all-reduce | audio a second | from disk | cores that read | {hours:,.0f} h once | {steps:,} steps |
|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
"""
TEXT = """\
{system}: {parameters:,} parameters; a step is {segments:,} segments of 30 s = {tokens:,} tokens; \
{corpora}, together {hours:,.0f} h; {steps:,} steps hear {heard:,.0f} h, the corpora {times:.0f} \
times.

Assumed; measured of it are only the tokens of one GPU, an H100 (docs/reproducing.md):

"""


def report(parameters, assumed=ASSUMED, gpus=GPUS):
    """The simulation as Markdown: what is assumed, and a line for each number of GPUs.

    Arguments
    ---------
    parameters : int
        That are trained.
    assumed : Assumptions
        See `MEANING`.
    gpus : sequence of int
        Numbers of GPUs.

    Example
    -------
    >>> report(50_000_000, gpus=[8]).splitlines()[-1]
    '| 8 | 128 | 0.35 GB | 0.66 s | 0.3% | 12.9 h | 1.9 GB/s | 154 | 2.3 min | 18.4 h |'
    """
    heard = STEPS * STEP_SEGMENTS * SEGMENT_SECONDS / 3600
    text = TEXT.format(
        system=SYSTEM,
        parameters=parameters,
        segments=STEP_SEGMENTS,
        tokens=STEP_SEGMENTS * SEGMENT_SECONDS * TOKEN_RATE,
        corpora=" and ".join(
            f"{name} {n:,} clips of 30 s = {n * 30 / 3600:,.0f} h" for name, n in CLIPS.items()
        ),
        hours=corpus_hours(),
        steps=STEPS,
        heard=heard,
        times=heard / corpus_hours(),
    )
    for option, meaning in MEANING.items():
        text += f"- `{option} {getattr(assumed, option[2:]):g}`: {meaning}\n"
    text += "\n" + HEADER.format(segments=STEP_SEGMENTS, hours=corpus_hours(), steps=STEPS)
    for number in gpus:
        found = simulate(number, parameters, assumed)
        text += (
            f"| {number} | {found.segments:g} | {found.sent_bytes / 1e9:.2f} GB | "
            f"{found.step_seconds:.2g} s | {found.exchange_seconds / found.step_seconds:.1%} | "
            f"{found.audio_rate / 3600:.1f} h | {found.disk_bytes / 1e9:.1f} GB/s | "
            f"{found.cores:,.0f} | {60 * found.pass_hours:.2g} min | {found.run_hours:.1f} h |\n"
        )
    return text


def count_parameters():
    """The trained parameters of the system, of its own yaml.

    Example
    -------
    >>> count_parameters()
    49771872
    """
    from benchmarks.training import load  # seconds that --help need not wait for

    parameters = load(SYSTEM)["model"].parameters()
    return sum(parameter.numel() for parameter in parameters if parameter.requires_grad)


def main(argv=None):
    """Prints the simulation.

    Arguments
    ---------
    argv : list of str, optional
        Instead of the command line.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cluster",
        description="Simulate training on many GPUs, on paper: arithmetic from assumptions.",
    )
    parser.add_argument(
        "--gpus", type=int, nargs="+", default=GPUS, metavar="N", help="numbers of them"
    )
    for option, meaning in MEANING.items():
        default = getattr(ASSUMED, option[2:])
        text = f"{meaning} ({default:g})"
        parser.add_argument(option, type=type(default), default=default, metavar="N", help=text)
    args = vars(parser.parse_args(argv))
    gpus, assumed = args.pop("gpus"), Assumptions(**args)
    try:
        for number in gpus:
            simulate(number, 1, assumed)  # refuses before the model is built
        text = report(count_parameters(), assumed, gpus)
    except ValueError as error:
        parser.error(str(error))
    print(text, end="")


if __name__ == "__main__":
    sys.exit(main())
