"""The processes beside the server: one for each run, and some for plans, comparisons, reports and exports."""
