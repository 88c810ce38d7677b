"""What a run stands on: trainer, strategies, processes, checkpoints."""
