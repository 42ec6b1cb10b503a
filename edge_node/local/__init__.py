"""The running node, asked from its own machine."""
