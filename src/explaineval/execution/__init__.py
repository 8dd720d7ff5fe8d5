"""Execution of a plan: requests sent concurrently, trials written, costs accounted."""
