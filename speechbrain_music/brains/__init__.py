"""Training loops: subclasses of SpeechBrain's Brain."""
