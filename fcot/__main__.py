"""`python -m fcot`."""

from fcot.cli import main

if __name__ == "__main__":
    main()
