"""From a split to weights, thresholds, and the figures of a run."""
