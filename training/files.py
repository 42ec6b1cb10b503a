"""One line about files that cannot be written."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from broker.contract.errors import SettingsError, SottovoceError

__all__ = ["writing"]


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
