"""Keeps the signatures of a repository of releases fresh: at its start, then once a day; and says when it does not.

    python -m deploy.docker.refresh             refreshes until it is told to stop
    python -m deploy.docker.refresh --check     its health: exit code 0, or 1 and a word on why

It is unhealthy when the last refresh failed, when `sottovoce-release status --check` says that somebody must do
something soon, and when offline keys lie in the repository: a machine that runs day and night must not have them.
"""

import argparse
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from broker.contract.errors import exit_with_one_line
from broker.files import write_whole
from broker.program import configure_logging, stop_on_signals

__all__ = ["Last", "keep", "main", "problem_of"]

_log = logging.getLogger("deploy.docker.refresh")

_DAY_S: Final = 86_400
_AGAIN_S: Final = 900
_LONGEST_S: Final = 600
_WARNED: Final = 1
_VARIABLE: Final = "SOTTOVOCE_ONLINE_PASSPHRASE"
"""Name of the environment variable, or with _FILE behind it of the one that names a file."""


class Last(msgspec.Struct, frozen=True, kw_only=True):
    """How the last refresh ended."""

    problem: str | None
    """In a line; None: well."""


class _Told(msgspec.Struct, frozen=True):
    """As much of the status as is asked for here."""

    warnings: tuple[str, ...]


def keep(refresh: Callable[[], str | None], wait: Callable[[float], bool], note: Callable[[Last], None]) -> None:
    """Refresh once a day, and after a failure sooner, until `wait` returns true.

    Args:
        refresh: returns what went wrong; None: nothing.
        wait: waits for so many seconds; returns whether to stop.
        note: keeps how the last refresh ended, for the health check.
    """
    failures, before = 0, None
    while True:
        problem = refresh()
        note(Last(problem=problem))
        if problem is None:
            _log.info("refreshed%s", f", after {failures} failures" if failures else "")
        elif problem != before:
            _log.error("not refreshed, tries again every %d minutes: %s", _AGAIN_S // 60, problem)
        failures, before = (0 if problem is None else failures + 1), problem
        if wait(_DAY_S if problem is None else _AGAIN_S):
            return


def problem_of(repository: Path, state: Path) -> str | None:
    """Return what somebody should look at; None: nothing.

    Args:
        repository: folder of the releases.
        state: file with how the last refresh ended.
    """
    offline = repository / "keys" / "offline"
    if any(offline.glob("*.pem")):
        return f"offline keys are in {offline}; move them to a medium that you put away"
    try:
        last = msgspec.json.decode(state.read_bytes(), type=Last)
    except FileNotFoundError:
        return "no refresh has ended yet"
    if last.problem is not None:
        return last.problem
    return _run("status", "--check", "--json", "--repository", str(repository))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code."""
    parser = argparse.ArgumentParser(prog="refresh", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="say whether all is well, and end")
    parser.add_argument(
        "--repository",
        type=Path,
        default=Path(os.environ.get("SOTTOVOCE_RELEASES") or "releases"),
        metavar="DIR",
        help="folder of the releases (default: $SOTTOVOCE_RELEASES, or releases)",
    )
    parser.add_argument(
        "--state",
        type=Path,
        default=Path(tempfile.gettempdir(), "sottovoce-refresh.json"),
        metavar="FILE",
        help="what the health check reads (default: %(default)s)",
    )
    chosen = parser.parse_args(arguments)
    return exit_with_one_line("refresh", lambda: (_check if chosen.check else _keep)(chosen.repository, chosen.state))


def _check(repository: Path, state: Path) -> int:
    problem = problem_of(repository, state)
    if problem is not None:
        sys.stdout.write(f"{problem}\n")
    return 0 if problem is None else 1


def _keep(repository: Path, state: Path) -> int:
    configure_logging()
    stop = stop_on_signals()
    keep(
        lambda: _run("refresh", "--repository", str(repository), "--online-passphrase-env", _VARIABLE),
        stop.wait,
        lambda last: write_whole(state, msgspec.json.encode(last)),
    )
    return 0


def _run(*words: str) -> str | None:
    """Return what `sottovoce-release` found wrong, in a line; None: nothing."""
    try:
        done = subprocess.run(  # noqa: S603 -- our own program
            [sys.executable, "-m", "training.release", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=_LONGEST_S,
        )
    except subprocess.TimeoutExpired:
        return f"sottovoce-release {words[0]} took longer than {_LONGEST_S} s"
    if done.returncode == 0:
        return None
    if done.returncode == _WARNED and "--check" in words and done.stdout:
        return "; ".join(msgspec.json.decode(done.stdout, type=_Told).warnings)
    lines = done.stderr.strip().splitlines()
    return lines[-1] if lines else f"sottovoce-release {words[0]} ended with {done.returncode}"


if __name__ == "__main__":
    sys.exit(main())
