"""What continuous integration runs; not in the wheel."""
