"""Speed and memory, measured against SpeechBrain and other encoders: `python -m perf`."""

from pathlib import Path

import yaml

SIZES, COMPARISONS, PEERS = (
    yaml.safe_load(Path(__file__).with_name(f"{name}.yaml").read_text(encoding="utf-8"))
    for name in ("sizes", "comparisons", "peers")
)
