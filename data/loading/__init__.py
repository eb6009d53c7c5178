"""From a dataset to batches: order, data workers, cache."""
