"""`sottovoce-node monitor`: what the node hears and makes of it, live. Nothing is published, nothing is written."""
