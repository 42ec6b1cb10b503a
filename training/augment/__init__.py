"""Training windows: clips, altered copies of them, noise and rooms."""
