"""Corpora: recordings to clips, and who stands on which side."""
