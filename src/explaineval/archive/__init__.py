"""Bundles: a run with its answers in one file, restored and reproduced elsewhere."""
