"""Synthetic stand-ins: music composed from a seed and rendered, with its true labels."""
