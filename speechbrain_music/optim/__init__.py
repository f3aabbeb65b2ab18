"""Optimisation: parameter groups, learning-rate schedules, early stopping."""
