"""From shards to batches: order, decoding, packing, the account of what was skipped."""
