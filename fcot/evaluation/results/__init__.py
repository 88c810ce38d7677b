"""What answers to benchmarks amount to: columns, comparisons in pairs, slices, files."""
