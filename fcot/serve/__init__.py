"""Ask a model about pages, in the terminal or over HTTP."""
