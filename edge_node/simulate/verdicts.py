"""What all virtual nodes would find alike is found out once, by the real thing, and remembered.

Metadata: `broker.verify.verify` depends on the mirrored files, the trusted files, the anchor, the channel and the time;
the digest of the first four is the key, and what is older than ten minutes is looked at anew. Bundles: the proof of
`edge_node.ota.proof` runs the golden vectors in a child process; the key is the digest of the bytes. Its gate of time
is left to each node, because nodes differ in that.
"""

import hashlib
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

import msgspec

from broker.contract.errors import BundleError, Refusal, SottovoceError, TrustError
from broker.contract.offer import Offer
from broker.verify import verify
from edge_node.ota.proof import prove

__all__ = ["Verdict", "Verdicts"]

_HOLDS_S: Final = 600.0
_MOST_VERDICTS: Final = 2_048
_FIRST_ROOT: Final = "1.root.json"
_ANY_TIME_US: Final = 60_000_000


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What comes of a look at metadata."""

    outcome: Offer | SottovoceError
    trusted: Mapping[str, bytes]
    """What is trusted after it, by file name."""


class Verdicts:
    """Answers to what nodes ask, each worked out once. `offer` and `proof` belong to one thread."""

    def __init__(self, anchor: bytes | None, channel: str) -> None:
        """Begin with nothing found out.

        Args:
            anchor: the root that all nodes were set up with; None: each takes the first that the broker retains, which
                no real node would do.
            channel: whose nodes they are.
        """
        self._anchor, self._channel = anchor, channel
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="verdicts")
        self._offers: dict[bytes, tuple[float, Future[Verdict]]] = {}
        self._proofs: dict[str, Future[str | None]] = {}
        self.looked = 0
        """How often metadata were really verified."""

    def offer(self, metadata: Mapping[str, bytes], trusted: Mapping[str, bytes]) -> "Future[Verdict]":
        """Return what is offered by mirrored files to a node that trusts some already."""
        anchor = metadata.get(_FIRST_ROOT, b"") if self._anchor is None else self._anchor
        key, now_s = _digest(anchor, metadata, trusted), time.monotonic()
        known = self._offers.get(key)
        if known is None or now_s - known[0] > _HOLDS_S:
            self.looked += 1
            while len(self._offers) >= _MOST_VERDICTS:
                del self._offers[next(iter(self._offers))]
            files = dict(metadata), dict(trusted)
            known = now_s, self._worker.submit(_look, anchor, self._channel, *files)
            self._offers[key] = known
        return known[1]

    def proof(self, data: bytes, sha256: str) -> "Future[str | None]":
        """Return why a bundle is refused, in the words of the proof; None: only the time of a window is left to see."""
        if sha256 not in self._proofs:
            self._proofs[sha256] = self._worker.submit(_prove, data, sha256)
        return self._proofs[sha256]

    def close(self) -> None:
        """End; what is being found out is waited for."""
        self._worker.shutdown(wait=True, cancel_futures=True)


def _look(anchor: bytes, channel: str, metadata: Mapping[str, bytes], trusted: Mapping[str, bytes]) -> Verdict:
    with tempfile.TemporaryDirectory(prefix="sottovoce-fleet-") as name:
        mirror, kept = Path(name) / "mirror", Path(name) / "trusted"
        _write(mirror, metadata)
        _write(kept, trusted)
        outcome: Offer | SottovoceError
        try:
            outcome = verify(mirror, kept, anchor, channel) if anchor else _rootless()
        except TrustError as error:
            outcome = error
        return Verdict(outcome=outcome, trusted=_read(kept))


def _rootless() -> SottovoceError:
    return TrustError(Refusal.INCOMPLETE, f"{_FIRST_ROOT} is not in the mirror")


def _prove(data: bytes, sha256: str) -> str | None:
    with tempfile.TemporaryDirectory(prefix="sottovoce-fleet-") as name:
        archive = Path(name) / "candidate.bundle"
        archive.write_bytes(data)
        try:
            prove(archive, sha256, _ANY_TIME_US)
        except BundleError as error:
            return str(error)
        return None


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir()
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _read(folder: Path) -> dict[str, bytes]:
    """Return a folder's files; python-tuf's links to the newest root are read as what they point to."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def _digest(anchor: bytes, metadata: Mapping[str, bytes], trusted: Mapping[str, bytes]) -> bytes:
    digest = hashlib.sha256(anchor)
    for files in (metadata, trusted):
        digest.update(b"\0")
        for name in sorted(files):
            digest.update(f"\0{name}\0{len(files[name])}\0".encode())
            digest.update(files[name])
    return digest.digest()
