"""Evaluation of encoders on labelled data: from a task's yaml to results.json and a report."""
