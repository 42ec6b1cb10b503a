"""Libraries that write pages past Python's logging are held back, and quoted only when they fail."""

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["native_output_held"]

log = logging.getLogger(__name__)


@contextmanager
def native_output_held() -> Iterator[None]:
    """Keep what is written to stdout and stderr, by native code too, and log it at DEBUG; on an exception, at ERROR."""
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        saved = os.dup(1), os.dup(2)
        level = logging.ERROR
        try:
            os.dup2(held.fileno(), 1)
            os.dup2(held.fileno(), 2)
            yield
            level = logging.DEBUG
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, number)
                os.close(copy)
            held.seek(0)
            log.log(level, "%s", held.read().decode(errors="replace").strip())
