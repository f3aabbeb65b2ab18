"""Speed and memory, measured against SpeechBrain and other encoders: `python -m perf`."""
