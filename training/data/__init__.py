"""Recordings to clips, and who stands on which side: who trains, who chooses, who is tested."""
