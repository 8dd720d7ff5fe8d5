"""`python -m explaineval` is the command line."""

from explaineval.cli import main

main()
