"""`python -m fcot`."""

from fcot.cli.main import main

if __name__ == "__main__":
    main()
