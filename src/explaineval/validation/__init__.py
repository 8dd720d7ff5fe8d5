"""Check the instrument on the user's machine: simulated models of known faithfulness through the whole pipeline."""
