"""Small tools: atomic files, checkpoints, options, errors."""
