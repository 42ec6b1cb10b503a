"""From the sound card, or a recording, to blocks that keep coming; and whether they hold speech."""
