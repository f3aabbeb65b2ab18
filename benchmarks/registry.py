"""Which function measures which row: (size, device, seconds) to what `contest.measure` returns."""

from functools import partial

from benchmarks import data, growth, parts, rows, step
from benchmarks.contest import measure

MEASURES = {
    "machine": partial(measure, rows.machine),
    "quantizer": partial(measure, rows.quantizer),
    "summary_mixing": partial(measure, rows.summary_mixing),
    "branchformer": partial(measure, rows.branchformer),
    "conformer": partial(measure, rows.conformer),
    "step": partial(measure, step.step),
    "parts": partial(measure, parts.parts),
    "growth": growth.measure,
    "data": data.measure,
    "probes": partial(measure, rows.probes),
}
