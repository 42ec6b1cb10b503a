"""The web console: what the collector has stored, live, in a browser."""
