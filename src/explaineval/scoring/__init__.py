"""Scoring: from the trials of a run directory to metric rows with intervals, signatures and warnings."""
