"""Files that appear whole or not at all, and one line about those that cannot be written."""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from broker.contract.errors import SettingsError, SottovoceError

__all__ = ["write_whole", "writing"]


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write a file under a temporary name beside it, then rename it; what a failure leaves is what was there before.

    Args:
        path: the file, in a folder that exists; several threads and processes may write it at once.
        data: all of its content.

    Raises:
        OSError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):  # renamed, it is gone
            part.unlink()


@contextlib.contextmanager
def writing(
    where: Path | str, advice: str, *, what: str | None = None, failure: type[SottovoceError] = SettingsError
) -> Iterator[None]:
    """Make one line of an OSError in the block: `<where>: <what> cannot be written (<reason>); <advice>`.

    Args:
        where: file or folder that the block writes, with its option if that helps.
        advice: what to do.
        what: what is written; None: the file or folder says it.
        failure: kind of the error.

    Raises:
        SottovoceError: of the kind `failure`.
    """
    try:
        yield
    except OSError as error:
        told = f"{what} cannot" if what else "cannot"
        msg = f"{where}: {told} be written ({error.strerror or error}); {advice}"
        raise failure(msg) from error
