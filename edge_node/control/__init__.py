"""What people tell a node: to be mute, to be more or less sure; and what it remembers of it."""
