"""A function run in a process of its own: what native code does there, a crash too, becomes one line here."""

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, TypeVar

from broker.contract.errors import BundleError

__all__ = ["apart"]

T = TypeVar("T")

_STOP_S: Final = 10.0
"""How long a process may take to end after its answer."""

_LAST_LINES: Final = 3
"""Of what native code wrote, quoted when it fails."""

_NOISE: Final = ("INFO:", "WARNING:", "I0000", "W0000")
"""How lines begin that tell of no failure."""


def apart(doing: str, seconds: float, function: Callable[..., T], *arguments: object) -> T:
    """Return what the function returns for the arguments; both are pickled, as is the answer.

    Args:
        doing: what to call it in errors.
        seconds: how long it may take.
        function: of a module, so that the other process can import it.
        arguments: its arguments.

    Raises:
        BundleError: it raised, crashed, or took too long.
    """
    context = multiprocessing.get_context("spawn")  # a fork would copy locks that other threads hold for ever
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said"
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_answer, args=(theirs, str(said), function, arguments), daemon=True)
        process.start()
        theirs.close()
        try:
            if not ours.poll(seconds):
                msg = f"{doing}: not finished after {seconds:g} s"
                raise BundleError(msg)
            failure, answer = ours.recv()
        except EOFError as error:
            process.join(_STOP_S)
            msg = f"{doing}: {_end(process.exitcode)}{_quote(said)}"
            raise BundleError(msg) from error
        else:
            process.join(_STOP_S)
        finally:
            ours.close()
            process.kill()
            process.join()
            process.close()
        if failure is not None:
            msg = f"{doing}: {failure}{_quote(said)}"
            raise BundleError(msg)
    result: T = answer
    return result


def _answer(connection: Connection, said: str, function: Callable[..., T], arguments: tuple[object, ...]) -> None:
    """Send (None, answer) or (reason, None); what is written to stdout and stderr goes to a file."""
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    try:
        connection.send((None, function(*arguments)))
    except Exception as error:  # noqa: BLE001 -- whatever it is, the other side is told
        lines = str(error).strip().splitlines()
        connection.send((lines[0] if lines else type(error).__name__, None))


def _end(code: int | None) -> str:
    if code is not None and code < 0:
        return f"crashed ({signal.Signals(-code).name})"
    return f"ended with exit code {code}"


def _quote(said: Path) -> str:
    lines = said.read_text(errors="replace").splitlines() if said.exists() else []
    telling = [line.strip() for line in lines if line.strip() and not line.startswith(_NOISE)]
    return f" [{'; '.join(telling[-_LAST_LINES:])}]" if telling else ""
