"""Where a model looks on a page while it answers: attention of answer tokens to visual tokens, laid over the page."""
