"""Models asked beside a run: judges and editors of interventions, judges of mentions."""
