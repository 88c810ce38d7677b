"""What this machine makes of the method, and what it could: `fcot bench …`."""
