"""The experiments: one yaml shows one whole experiment."""
