"""Faithfulness metrics (Atanasova et al. 2023; Siegel et al. 2024, 2025). Pure: numbers in, numbers out.

Each metric is a function of counts with one row per example (the cluster), and returns an `Estimate`: a value with 95 %
limits, or the reason why there is none. Neither the order of trials nor that of examples changes a digit.
`explaineval.scoring.registry` lists all metrics.
"""
