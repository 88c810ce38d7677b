"""Rules that score an answer, one a file, as pure functions."""
