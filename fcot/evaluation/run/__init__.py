"""Answer the rows of benchmarks with a model: planned by cost, prepared beside the model, written as answers come."""
