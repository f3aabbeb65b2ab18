"""Optimisation: parameter groups, learning-rate schedule."""
