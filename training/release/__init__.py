"""Bundles signed, published and rolled out: the repository of releases, on TUF; nothing here needs TensorFlow."""
