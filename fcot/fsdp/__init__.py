"""FSDP2: weights, gradients and optimizer states of a training shared out over the processes, layer by layer."""
