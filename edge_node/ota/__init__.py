"""How a node takes up model updates: what is offered, what the device makes of it, and what is kept of it."""
