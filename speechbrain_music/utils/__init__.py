"""Small tools: atomic files, checkpoints, reports."""
