"""Compute metric rows with intervals, signatures and warnings from the trials of a run directory."""
