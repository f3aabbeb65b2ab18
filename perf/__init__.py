"""Speed and memory, measured against SpeechBrain and other encoders: `python -m perf`."""

from pathlib import Path

import yaml

SIZES = yaml.safe_load(Path(__file__).with_name("sizes.yaml").read_text(encoding="utf-8"))
