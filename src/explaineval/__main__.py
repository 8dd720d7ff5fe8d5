"""Run the command line: `python -m explaineval`."""

from explaineval.cli import main

main()
