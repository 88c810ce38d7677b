"""What this machine makes of the method, and what it could: `python -m fcot bench …`."""
