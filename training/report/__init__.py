"""Runs written up: documents, pictures, the model card."""
