"""Neural modules of the method: pure torch, nothing else of this package."""
