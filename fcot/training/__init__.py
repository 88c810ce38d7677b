"""LightningModules of re-alignment and post-training, and their losses."""
