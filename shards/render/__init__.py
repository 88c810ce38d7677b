"""Pages drawn from real prose and real tables, with what a reader should say of them."""
