"""Ask a model about pages, in the terminal."""
