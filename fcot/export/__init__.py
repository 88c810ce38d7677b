"""Export a student: write a folder that transformers loads, with or without fcot."""
