"""Music encoders of linear cost for SpeechBrain: pre-training, embeddings, evaluation."""

__version__ = "0.1.0"
