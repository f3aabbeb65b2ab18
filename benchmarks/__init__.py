"""Speed and memory beside peers: `python -m benchmarks` measures and writes RESULTS.md;
`python -m benchmarks.embed` does so for embedding a file, beside whole models of others.

Ratios are taken side by side in one process; nothing here is a timed test.
"""

# Names in `benchmarks.registry.MEASURES`, in the order in which they run.
ROWS = (
    "machine",
    "quantizer",
    "summary_mixing",
    "branchformer",
    "conformer",
    "step",
    "parts",
    "growth",
    "data",
    "probes",
)
