"""Write a run for other programs: tables of its rows, a table for a paper, logs and records of other projects."""
