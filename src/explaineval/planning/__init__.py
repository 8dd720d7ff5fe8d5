"""Planning: every request of a run, known before the first one is sent."""
