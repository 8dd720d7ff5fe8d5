"""Figures of runs: what each shows (pure data), and their drawing as SVG and PDF."""
