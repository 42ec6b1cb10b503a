"""Private keys: Ed25519, one file each, encrypted, readable by their owner alone; never printed."""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner, SSlibKey

from broker.contract.errors import ReleaseError, SettingsError
from training.release.roles import Keep, Role

__all__ = ["SHORTEST_PASSPHRASE", "Key", "KeyRing", "MissingKeyError", "Passphrase"]

Key = SSlibKey
SHORTEST_PASSPHRASE: Final = 12
"""Characters: a file of keys can be tried at leisure by whoever has copied it."""

_NAMED: Final = 16
"""Characters of a key's id in its file's name."""
_SCRYPT: Final = {"n": 2**15, "r": 8, "p": 1, "maxmem": 2**26, "dklen": 32}
"""RFC 7914; 32 MiB and some tenths of a second for each guess."""

Passphrase = Callable[[Keep], str]


class MissingKeyError(ReleaseError):
    """Too few of a role's keys are at hand to sign."""


class KeyRing:
    """The private keys at hand, found by their ids in some folders; a file is opened when it is to sign."""

    def __init__(self, folders: Sequence[Path], passphrase: Passphrase) -> None:
        """Remember where keys are, and how to ask for a passphrase."""
        self.folders = tuple(folders)
        self.passphrase = passphrase
        self._opened: dict[str, CryptoSigner] = {}

    def make(self, folder: Path, role: Role) -> Key:
        """Make a key, write its file and return its public half.

        Args:
            folder: where its file goes; made when missing.
            role: whose key it is to be.

        Raises:
            SettingsError: the passphrase is too short.
            ReleaseError: the file cannot be written.
        """
        private = Ed25519PrivateKey.generate()
        signer = CryptoSigner(private)
        public = signer.public_key
        password = _stretched(self.passphrase(Keep.of(role)), public.keyid, Keep.of(role))
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password))
        path = folder / f"{role}.{public.keyid[:_NAMED]}.pem"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(pem)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            msg = f"{path}: the key cannot be written ({error.strerror}); name a folder that you can write"
            raise ReleaseError(msg) from error
        self._opened[public.keyid] = signer
        return public

    def has(self, role: Role, key_id: str) -> bool:
        """Return whether a key's file is here."""
        return self.path(role, key_id) is not None

    def lacks(self, *roles: Role) -> MissingKeyError:
        """Return the error that too few of these roles' keys are at hand."""
        where = ", ".join(map(str, self.folders))
        return MissingKeyError(f"no key of {' or '.join(roles)} in {where}; name its folder with --keys")

    def signers(self, role: Role, key_ids: Iterable[str]) -> list[CryptoSigner]:
        """Return those of a role's keys that are at hand.

        Raises:
            SettingsError: the passphrase is wrong.
            ReleaseError: a file cannot be read, or holds another key.
        """
        found = ((key_id, self.path(role, key_id)) for key_id in key_ids)
        return [self._open(role, key_id, path) for key_id, path in found if path is not None]

    def path(self, role: Role, key_id: str) -> Path | None:
        """Return where a key's file is; None: not at hand."""
        name = f"{role}.{key_id[:_NAMED]}.pem"
        return next((folder / name for folder in self.folders if (folder / name).is_file()), None)

    def _open(self, role: Role, key_id: str, path: Path) -> CryptoSigner:
        if key_id not in self._opened:
            password = _stretched(self.passphrase(Keep.of(role)), key_id, Keep.of(role))
            try:
                private = load_pem_private_key(path.read_bytes(), password)
            except OSError as error:
                msg = f"{path}: cannot be read ({error.strerror})"
                raise ReleaseError(msg) from error
            except ValueError as error:  # the same for a wrong passphrase and a damaged file
                msg = f"{path}: does not open; the passphrase of the {Keep.of(role)} keys is wrong, or the file damaged"
                raise SettingsError(msg) from error
            signer = CryptoSigner(private)
            if signer.public_key.keyid != key_id:
                msg = f"{path}: holds another key than its name says; restore it from a copy"
                raise ReleaseError(msg)
            self._opened[key_id] = signer
        return self._opened[key_id]


def _stretched(passphrase: str, key_id: str, keep: Keep) -> bytes:
    """Return the password of a key's file: a PEM file's own derivation is cheap to guess against."""
    if len(passphrase) < SHORTEST_PASSPHRASE:
        msg = f"the passphrase of the {keep} keys is too short; allowed is {SHORTEST_PASSPHRASE} characters or more"
        raise SettingsError(msg)
    return hashlib.scrypt(passphrase.encode(), salt=bytes.fromhex(key_id), **_SCRYPT).hex().encode()
