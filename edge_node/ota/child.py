"""A short-lived process for what may crash, hang, grow, or hold memory that the node has better use for.

This is the node's side; `edge_node.ota.confined` is the child's. A child holds no secret of the node, leaves no core
dump (there may be audio in its memory), is the first that a system short of memory ends, and ends when the node does.

A child ends with the *thread* that started it (Linux counts threads as parents): that thread waits for it.
"""

import contextlib
import enum
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Final

import msgspec

from broker.contract.errors import SottovoceError
from edge_node.ota.confined import OUT_OF_MEMORY, TERMS, Terms

__all__ = ["Awake", "Child", "ChildError", "Ending", "Limits"]

_KEPT: Final = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "PYTHONPATH", "TMPDIR")
"""Of the environment: what Python may need to find itself and its packages. Nothing else is a child's business."""
_SET: Final = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}  # address space of threads would count as memory
_LOOK_S: Final = 0.05
_PAUSE_S: Final = 2.0
"""Looks that are this far apart: we did not run ourselves, for we were stopped, frozen or suspended."""
_PIECE_BYTES: Final = 65_536
_STDERR_BYTES: Final = 4096
_MOST_WORDS: Final = 120
_ABORTS: Final = (b"bad_alloc", b"memory allocation of")
"""What C++ and Rust say when they end a program that is refused memory."""
_MIB: Final = 1 << 20


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What a child may take."""

    wall_s: float = 60.0
    """Seconds after which it must have ended; those in which the node itself was paused do not count."""
    memory_bytes: int = 256 * _MIB
    """What it may allocate on top of what it holds once its libraries are loaded."""
    output_bytes: int = 65_536
    """What it may write to stdout."""


class Ending(enum.StrEnum):
    """Why there is no answer."""

    CRASHED = "crashed"
    HUNG = "hung"
    MEMORY = "memory"
    CANCELLED = "cancelled"
    NOT_STARTED = "not started"


class ChildError(SottovoceError):
    """A child ended without its answer."""

    def __init__(self, ending: Ending, words: str) -> None:
        """Say why, in a word for programs and a line for people."""
        super().__init__(words)
        self.ending = ending


class Awake:
    """A clock that stands still while this process does: what a child answered meanwhile lies unread in its pipe.

    It must be looked at much more often than `_PAUSE_S`, and by one thread at a time.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        """Begin; `now_s` is a clock that only goes forward, in seconds."""
        self._now_s = now_s
        self._looked_s = now_s()
        self._paused_s = 0.0

    def __call__(self) -> float:
        """Return the time in seconds, of which only differences mean anything."""
        now_s = self._now_s()
        since_s, self._looked_s = now_s - self._looked_s, now_s
        if since_s > _PAUSE_S:
            self._paused_s += since_s - _LOOK_S  # one look's time counts, so that every deadline comes
        return now_s - self._paused_s


class Child:
    """One run of a module in a process of its own."""

    def __init__(self, module: str, arguments: Sequence[str | Path] = (), *, limits: Limits, nice: int = 0) -> None:
        """Prepare it; nothing runs yet.

        Args:
            module: full name of a module that calls what `edge_node.ota.confined` has.
            arguments: of its command line, which every user of the machine can read.
            limits: what it may take.
            nice: how much lower than the node's its priority is.
        """
        self._command = [
            sys.executable,
            "-P",
            "-m",
            module,
            *map(str, arguments),
        ]  # -P: no module of the current folder
        self._limits, self._nice = limits, nice
        self.now_s = Awake()
        """The clock of its limits, for what is called while it runs."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_cancelled = False

    @property
    def pid(self) -> int | None:
        """Of the process, once it has been started."""
        return None if self._process is None else self._process.pid

    def run(self, data: bytes = b"") -> bytes:
        """Return what the child answers to `data` on its stdin.

        Raises:
            ChildError: it crashed, hung, needed too much, was cancelled, or could not be started.
        """
        pieces, answer = iter([data] if data else []), bytearray()
        self.converse(lambda: next(pieces, None), answer.extend)
        return bytes(answer)

    def converse(
        self, ask: Callable[[], bytes | None], take: Callable[[bytes], None], watch: Callable[[], None] = lambda: None
    ) -> None:
        """Start the child and stay with it to its end. What is passed in is called on this thread.

        Args:
            ask: returns what is to be sent next; b"" for nothing yet, None when there will be no more.
            take: is given what the child writes to stdout, cut anyhow.
            watch: is called now and then; what it raises ends the child, as does what the others raise.

        Raises:
            ChildError: as `run`.
        """
        deadline_s = self.now_s() + self._limits.wall_s

        def look() -> None:
            if self.now_s() >= deadline_s:
                raise ChildError(Ending.HUNG, f"no answer within {self._limits.wall_s:g} s")
            watch()

        process = self._start()
        try:
            last_words = self._exchange(process, ask, take, look)
            while (code := self._poll(process)) is None:
                look()
                time.sleep(_LOOK_S / 10)  # its pipes are closed, so it is about to end
        finally:
            self._end(process)
        if self._is_cancelled:
            raise ChildError(Ending.CANCELLED, "cancelled")
        if code != 0:
            raise _explain(code, last_words, self._limits)

    def cancel(self) -> None:
        """End the child, from any thread: whoever waits for it gets a ChildError. One not started yet never runs."""
        with self._lock:
            self._is_cancelled = True
            self._kill()

    def _start(self) -> subprocess.Popen[bytes]:
        terms = Terms(parent=os.getpid(), nice=self._nice, memory_bytes=self._limits.memory_bytes)
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        with self._lock:
            if self._is_cancelled:
                raise ChildError(Ending.CANCELLED, "cancelled")
            try:
                self._process = subprocess.Popen(  # noqa: S603 -- a module of ours
                    self._command,
                    bufsize=0,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env=kept | _SET | {TERMS: msgspec.json.encode(terms).decode()},
                    start_new_session=True,
                )
            except OSError as error:
                raise ChildError(Ending.NOT_STARTED, f"cannot be started: {error.strerror}") from error
            return self._process

    def _exchange(
        self,
        process: subprocess.Popen[bytes],
        ask: Callable[[], bytes | None],
        take: Callable[[bytes], None],
        look: Callable[[], None],
    ) -> bytes:
        """Serve the child's pipes until it has closed them, and return the end of what it wrote to stderr."""
        stdin, stdout, stderr = _pipes(process)
        last_words, answered, most = b"", 0, self._limits.output_bytes
        with selectors.DefaultSelector() as ready:
            ready.register(stdout, selectors.EVENT_READ)
            ready.register(stderr, selectors.EVENT_READ)
            sending = _Sending(stdin, ask, ready)
            while any(key.events == selectors.EVENT_READ for key in ready.get_map().values()):
                sending.prepare()
                for key, _ in ready.select(_LOOK_S):
                    if key.fileobj is stdin:
                        sending.write()
                    elif not (piece := os.read(key.fd, _PIECE_BYTES)):
                        ready.unregister(key.fileobj)
                    elif key.fileobj is stderr:
                        last_words = (last_words + piece)[-_STDERR_BYTES:]
                    elif (answered := answered + len(piece)) > most:
                        raise ChildError(Ending.CRASHED, f"answered more than {most} bytes")
                    else:
                        take(piece)
                look()  # after what was ready has been read: a late look must not count against the child
        return last_words

    def _poll(self, process: subprocess.Popen[bytes]) -> int | None:
        """Return the exit code once it has ended; under the lock, or `cancel` might kill who gets its number next."""
        with self._lock:
            return process.poll()

    def _kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """Leave no process, no zombie and no pipe."""
        with self._lock:
            self._kill()
            process.wait()
        for pipe in _pipes(process):
            pipe.close()


class _Sending:
    """What goes into a child's stdin, as fast as the child takes it."""

    def __init__(self, stdin: IO[bytes], ask: Callable[[], bytes | None], ready: selectors.BaseSelector) -> None:
        os.set_blocking(stdin.fileno(), False)
        self._stdin, self._ask, self._ready = stdin, ask, ready
        self._rest = memoryview(b"")

    def prepare(self) -> None:
        """Fetch what is next, once the last is sent; watch the pipe only while there is something to send."""
        if self._stdin.closed or self._rest:
            return
        piece = self._ask()
        if piece is None:
            self._stdin.close()
        elif piece:
            self._rest = memoryview(piece)
            self._ready.register(self._stdin, selectors.EVENT_WRITE)

    def write(self) -> None:
        try:
            self._rest = self._rest[os.write(self._stdin.fileno(), self._rest[:_PIECE_BYTES]) :]
        except BrokenPipeError:  # it listens no longer; its end will say why
            self._rest = memoryview(b"")
            self._ready.unregister(self._stdin)
            self._stdin.close()
            return
        if not self._rest:
            self._ready.unregister(self._stdin)


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes], IO[bytes]]:
    assert process.stdin and process.stdout and process.stderr  # noqa: S101, PT018 -- for the type checker
    return process.stdin, process.stdout, process.stderr


def _explain(code: int, last_words: bytes, limits: Limits) -> ChildError:
    """Return why a child ended with this code, negative for a signal."""
    lines = [line for line in last_words.decode(errors="replace").splitlines() if line and not line.startswith("INFO")]
    if code == OUT_OF_MEMORY or (code == -signal.SIGABRT and any(each in last_words for each in _ABORTS)):
        return ChildError(Ending.MEMORY, f"needs more than {limits.memory_bytes / _MIB:g} MiB")
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        return ChildError(Ending.CRASHED, f"killed by {name}")
    words = "".join(each if each.isprintable() else "?" for each in lines[-1])[:_MOST_WORDS] if lines else ""
    return ChildError(Ending.CRASHED, f"ended with code {code}: {words}" if words else f"ended with code {code}")
