"""Limits that all runs of the service keep to: budgets of tokens, and connections and rates of endpoints."""
