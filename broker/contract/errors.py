"""The errors a user can meet. Each says what is wrong, where, and what to do.

    SottovoceError                exit 1
    ├── SettingsError             exit 2   a settings file or an argument is wrong
    ├── AudioError                exit 3   a recording or a microphone cannot be used
    ├── BundleError               exit 4   a model bundle is corrupt or does not fit this program
    ├── LinkError                 exit 5   the broker cannot be reached or refuses this client
    ├── StoreError                exit 6   a store or an outbox cannot be opened, read or written
    ├── DataError                 exit 7   training data is missing or unusable
    ├── ReleaseError              exit 8   a repository of releases, or a key of it, does not allow what was asked
    ├── TrustError                exit 9   what claims to be a release is refused, for a reason that has a word
    └── MessageError              exit 1   a payload breaks the contract (the collector dead-letters it)

One exit code is no error: 10, when a claim of `sottovoce-node privacy-check` does not hold.

Anything else that escapes a program is a defect of Sottovoce and shows as a traceback.
"""

import enum
import os
import sys
from collections.abc import Callable

__all__ = [
    "AudioError",
    "BundleError",
    "DataError",
    "LinkError",
    "MessageError",
    "Refusal",
    "ReleaseError",
    "SettingsError",
    "SottovoceError",
    "StoreError",
    "TrustError",
    "exit_with_one_line",
]


class SottovoceError(Exception):
    """Something that the person who runs a program can mend."""

    exit_code = 1


class SettingsError(SottovoceError):
    """A setting is unknown, has the wrong type, or is out of range."""

    exit_code = 2


class AudioError(SottovoceError):
    """A recording or a microphone cannot be used."""

    exit_code = 3


class BundleError(SottovoceError):
    """A model bundle is corrupt, or does not fit this program."""

    exit_code = 4


class LinkError(SottovoceError):
    """The broker cannot be reached, or refuses this client."""

    exit_code = 5


class StoreError(SottovoceError):
    """A store or an outbox cannot be opened, read or written."""

    exit_code = 6


class DataError(SottovoceError):
    """Training data is missing or unusable."""

    exit_code = 7


class ReleaseError(SottovoceError):
    """A repository of releases, or a key of it, does not allow what was asked."""

    exit_code = 8


class Refusal(enum.StrEnum):
    """Why signed metadata is refused. All but the first are what an attack, or a broken release program, looks like."""

    INCOMPLETE = "incomplete"
    """A file is missing: it may be on its way."""
    WRONG_KEY = "wrong key"
    """No key that counts has signed."""
    TOO_FEW_SIGNATURES = "too few signatures"
    """Some keys have signed, but fewer than are asked for."""
    ROLLBACK = "rollback"
    """Older than what this client has already seen."""
    EXPIRED = "expired"
    """Somebody holds back what is newer, or nobody signs any more, or a clock is wrong."""
    MIX_AND_MATCH = "mix and match"
    """A file that was signed, but not as a part of this state."""
    ENDLESS_DATA = "endless data"
    """A file is larger than it may be."""
    MALFORMED = "malformed"
    """What was signed cannot be read."""
    UNKNOWN_CHANNEL = "unknown channel"
    """Nothing is signed for this channel."""
    UNSIGNED_RELEASE = "unsigned release"
    """A channel names a bundle that the offline key did not sign: this is what a stolen online key can do."""


class TrustError(SottovoceError):
    """What claims to be a release is refused."""

    exit_code = 9

    def __init__(self, refusal: Refusal, message: str) -> None:
        """Say why, in a word for programs and a line for people."""
        super().__init__(f"{refusal}: {message}")
        self.refusal = refusal


class MessageError(SottovoceError):
    """A payload or a topic breaks the contract."""


def exit_with_one_line(program: str, run: Callable[[], int]) -> int:
    """Return what `run` returns; turn a user's error into one line on stderr and its exit code.

    Ctrl-C returns 130, as shells expect; a closed pipe (`| head`) returns 141.
    """
    try:
        code = run()
        if sys.stdout is not None:  # it may have been closed before we began
            sys.stdout.flush()  # here, where a closed pipe can still be caught
    except SottovoceError as error:
        sys.stderr.write(f"{program}: error: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at exit would fail again
        return 141
    return code
