"""Ship a student: a folder that transformers loads, with fcot and without it."""
