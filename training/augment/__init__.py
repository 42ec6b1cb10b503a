"""Clips to training windows: altered copies, rooms, noise, balanced draws."""
