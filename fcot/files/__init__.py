"""Files on disk: whole folders, locks, JSON, weights."""
