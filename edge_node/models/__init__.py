"""The model that every node is installed with."""

from importlib.resources import files

__all__ = ["factory_bundle"]


def factory_bundle() -> bytes:
    """Return the factory model's bundle: the floor that a node falls back to."""
    return files(__name__).joinpath("factory.bundle").read_bytes()
