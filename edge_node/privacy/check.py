"""From a run to a report."""

import platform
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from broker.contract.bundle import Bundle, read_bundle
from broker.contract.errors import BundleError
from edge_node.drafts import installed_versions
from edge_node.models import factory_bundle
from edge_node.privacy.accounts import rest_of, schema_texts, words_of_topics
from edge_node.privacy.amount import LEAST_SPEECH_BITS_S, amount_of
from edge_node.privacy.known import secrets_of
from edge_node.privacy.report import Finding, Report, Stream, Verdict
from edge_node.privacy.run import Run
from edge_node.privacy.sought import MOST_SEARCHED, entropy_of, sought_in
from edge_node.privacy.sound import RATE_HZ, known_signal
from edge_node.privacy.verdicts import Evidence, findings_of, gather

__all__ = ["bundle_of", "report_of"]

_DECOY: Final = 7
_TELEMETRY_S: Final = 10.0
_NUMBERED: Final = re.compile(r"\d+-\d+(?=\.part)")


def report_of(
    run: Run, settings: Mapping[str, Any], bundle: Bundle, muted_s: float, *, with_controls: bool = True
) -> Report:
    """Return what a run came to.

    Args:
        run: it.
        settings: the node's, as TOML has them.
        bundle: the model that the node ran.
        muted_s: for how long it was muted, in s.
        with_controls: whether to look for another signal and for planted leaks, too, which takes most of the time.
    """
    evidence = gather(run)
    texts = [each.payload for each in evidence.said] + words_of_topics(run.node) + schema_texts()
    rests = _rests(run, evidence, texts)
    decoy = secrets_of(known_signal(len(run.signal) / RATE_HZ, _DECOY), bundle) if with_controls else None
    sought = sought_in(rests, secrets_of(run.signal, bundle), decoy, run.words.encode() if with_controls else None)
    telemetry_s = float(settings.get("telemetry", {}).get("interval_s", _TELEMETRY_S))
    amount = amount_of(evidence.said, run.heard_s + muted_s, telemetry_s)
    return Report(
        node=str(run.node),
        model=bundle.manifest.identity,
        made_us=time.time_ns() // 1000,
        heard_s=round(run.heard_s, 1),
        muted_s=muted_s,
        calls=run.deeds.calls,
        findings=[*findings_of(run, evidence, sought, amount, bundle), _searched(rests)],
        sought=sought,
        streams=_streams(run, evidence, rests),
        bits_per_second=round(amount.per_second, 1),
        most_bits_per_second=round(amount.most_per_second, 1),
        least_speech_bits_per_second=LEAST_SPEECH_BITS_S,
        tools=_tools(),
    )


def bundle_of(settings: Mapping[str, Any]) -> Bundle:
    """Return the model that a node with these settings runs.

    Raises:
        BundleError: it cannot be read.
    """
    path = settings.get("bundle")
    try:
        data = factory_bundle() if path is None else Path(str(path)).read_bytes()
    except (OSError, ValueError) as error:
        msg = f"{path}: {getattr(error, 'strerror', error)}; name a model bundle"
        raise BundleError(msg) from error
    return read_bundle(data, str(path or "the factory model"))


def _rests(run: Run, evidence: Evidence, texts: list[bytes]) -> dict[str, bytes]:
    """Return what is to be searched: what is no message, by where it was written, and every message once."""
    rests = {name: rest_of(parts, texts) for name, parts in _by_name(run, evidence).items()}
    rests |= {f"{_name(run, path)}, seen": rest_of([data], texts) for path, data in run.glimpses.items()}
    rests |= {
        f"{_name(run, path)}, left": rest_of([content], texts)
        for path, content in run.left.items()
        if content != bytes(run.deeds.files.get(path, b""))  # something was written that no call told of
    }
    names = "\n".join(dict.fromkeys(_name(run, path) for path in run.deeds.made)).encode()
    rests["names of files"] = names
    rests["messages"] = b"\n".join(dict.fromkeys(texts))
    return {where: rest for where, rest in rests.items() if rest}


def _searched(rests: Mapping[str, bytes]) -> Finding:
    """Return whether everything could be searched."""
    large = [f"{len(rest)} bytes in {where}" for where, rest in rests.items() if len(rest) > MOST_SEARCHED]
    total = sum(map(len, rests.values()))
    return Finding(
        claim="all that was written is searched",
        verdict=Verdict.FAILS if large else Verdict.HOLDS,
        words=f"more than {MOST_SEARCHED}: {'; '.join(large)}" if large else f"{total} bytes, each once",
    )


def _streams(run: Run, evidence: Evidence, rests: Mapping[str, bytes]) -> list[Stream]:
    streams = []
    for name, parts in _by_name(run, evidence).items():
        rest = rests.get(name, b"")
        entropy = round(entropy_of(rest), 2)
        streams.append(Stream(where=name, size=sum(map(len, parts)), rest=len(rest), entropy=entropy))
    return sorted(streams, key=lambda each: -each.size)


def _by_name(run: Run, evidence: Evidence) -> dict[str, list[bytes]]:
    """Return all that was written, with what has the same name together."""
    named: dict[str, list[bytes]] = {}
    for place, parts in evidence.by_place.items():
        named.setdefault(_name(run, place), []).extend(parts)
    return named


def _name(run: Run, place: str) -> str:
    """Return where something was written, in words that do not change from run to run."""
    if place.startswith("/"):
        return _NUMBERED.sub("*", place.removeprefix(f"{run.folder}/"))
    if run.deeds.connected.get(place) == run.broker:
        return "to the broker"
    kind = place.partition(":")[0]
    return f"{kind}s of its own" if kind == "pipe" or place in {*run.deeds.accepted, *run.deeds.connected} else place


def _tools() -> str:
    strace = shutil.which("strace") or "strace"
    said = subprocess.run([strace, "-V"], capture_output=True, text=True, check=False).stdout  # noqa: S603 -- a version
    sottovoce = installed_versions().sottovoce
    return f"Sottovoce {sottovoce}, Python {platform.python_version()}, {said.splitlines()[0] if said else 'strace'}"
