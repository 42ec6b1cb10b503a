"""A split to weights, thresholds and figures, and what a run leaves behind."""
