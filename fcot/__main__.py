"""`python -m fcot`."""

from fcot.cli import main

main()
