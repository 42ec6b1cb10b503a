"""What a bundle can do: its figures, compared and held against limits."""
