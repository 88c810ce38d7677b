"""How a run is executed: trainer, strategies, processes, checkpoints."""
