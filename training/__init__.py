"""Training: from corpora of emotional speech to the bundle that nodes run."""
