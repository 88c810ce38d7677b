"""What the method costs and saves, measured on this machine or counted: `fcot bench …`."""
