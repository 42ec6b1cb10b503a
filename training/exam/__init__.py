"""What a model says of speakers it never heard: as a node hears them, scored, compared, held against limits."""
