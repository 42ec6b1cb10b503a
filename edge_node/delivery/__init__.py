"""From a message to the broker's acknowledgement, through a disk that remembers."""
