"""What has to hold after a run, claim by claim. A claim that cannot be examined fails."""

import contextlib
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

import msgspec

from broker.contract.bundle import Bundle
from broker.contract.errors import MessageError
from broker.contract.messages import EmotionEvent, NodeStatus, Telemetry, decode
from broker.contract.topics import EMOTION, NodeId
from edge_node.clock import WallClock
from edge_node.delivery.outbox import Outbox, OutboxSettings
from edge_node.privacy.accounts import Said, Unexplained, check_answers, check_database, said_on
from edge_node.privacy.amount import LEAST_SPEECH_BITS_S, Amount
from edge_node.privacy.report import Finding, Sought, Verdict
from edge_node.privacy.run import Run

__all__ = ["Evidence", "findings_of", "gather"]

_FILES: Final = re.compile(
    r"outbox\.sqlite(-wal|-shm|-journal|\.lock|\.part|\.state\.json|\.home-assistant(\.new)?)?"
    r"|\.outbox\.sqlite\.state\.json\.(lock|\d+-\d+\.part)"
    r"|node\.sock|\.\d+|log|update(/.*)?"
)
_LOG_LINE: Final = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} (INFO|WARNING|ERROR|CRITICAL) [\w.]+: .*|INFO: Created TensorFlow Lite .*"
)
_SLACK_S: Final = 1.0
_LATE_US: Final = 1_500_000
_FEWEST_WINDOWS: Final = 3


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """What a run showed, sorted by where it was shown."""

    said: list[Said]
    """On the wire, as often as it was said."""
    packets: int
    problems: dict[str, list[str]]
    """What is no message, log line or order of the database, by the claim that it breaks."""
    by_place: dict[str, list[bytes]]
    """All that was written, by where."""


_WIRE: Final = "every byte on the wire is a message of the contract"
_LOCAL: Final = "what leaves by the local socket and the pipes is known"
_DISK: Final = "the outbox holds messages of the contract only"
_LOG: Final = "the log holds lines of the program only"


def gather(run: Run) -> Evidence:
    """Return what a run showed, with what each byte of the wire, the sockets, the outbox and the log is."""
    by_place: dict[str, list[bytes]] = {}
    for write in run.deeds.writes:
        by_place.setdefault(write.where, []).append(write.data)
    problems: dict[str, list[str]] = {claim: [] for claim in (_WIRE, _LOCAL, _DISK, _LOG)}
    said: list[Said] = []
    packets = 0

    def note(claim: str, examine: Callable[[], object]) -> None:
        try:
            examine()
        except Unexplained as error:
            problems[claim].append(str(error))

    for place, parts in by_place.items():
        stream = b"".join(parts)
        if run.deeds.connected.get(place) == run.broker:
            try:
                new, seen = said_on(stream, run.node)
            except Unexplained as error:
                problems[_WIRE].append(str(error))
                continue
            said += new
            packets += len(seen)
        elif not place.startswith("/"):
            _examine_own(run, place, stream, lambda examine: note(_LOCAL, examine), problems[_LOCAL])
    if (outbox := run.left.get(f"{run.folder}/outbox.sqlite")) is None:
        problems[_DISK].append("there is no outbox")
    else:
        note(_DISK, lambda: check_database(outbox, run.node))
    problems[_LOG] += [f"{line[:80]!r}" for line in run.words.splitlines() if not _LOG_LINE.fullmatch(line)]
    return Evidence(said=said, packets=packets, problems=problems, by_place=by_place)


def _examine_own(
    run: Run, place: str, stream: bytes, note: Callable[[Callable[[], object]], None], problems: list[str]
) -> None:
    """Examine what went into a socket that is not the broker's, or into a pipe."""
    address = run.deeds.connected.get(place)
    if place.startswith("pipe:"):
        if len(stream) > 4:  # noqa: PLR2004 -- numbers of signals, one byte each
            problems.append(f"{len(stream)} bytes went into a pipe")
    elif address is not None and address not in run.deeds.own:
        problems.append(f"{len(stream)} bytes went to {address}")
    elif place in run.deeds.accepted or address is not None:
        if stream.strip(b"0"):  # paho wakes its own thread with them
            note(lambda: check_answers(stream))
    else:
        problems.append(f"{len(stream)} bytes went to {place}")


def findings_of(
    run: Run, evidence: Evidence, sought: Sequence[Sought], amount: Amount, bundle: Bundle
) -> list[Finding]:
    """Return every claim, and whether it holds."""
    findings = [
        _finding("the recording is whole", _recording(run, evidence), f"{run.deeds.calls} calls of the system noted"),
        _finding("the node listened and judged", _listening(run, evidence), _judged(evidence)),
        _finding("it writes to its own files only", _places(run), f"{len(set(run.deeds.made))} paths, all expected"),
        _finding("it sends to its broker only", _network(run), f"{run.broker}, beside its own wake-ups"),
    ]
    findings += [_finding(claim, found, _account(claim, evidence)) for claim, found in evidence.problems.items()]
    findings += [
        _finding(
            "a field outside the contract is refused", _refusals(evidence, run.node), "by the outbox, and by collectors"
        ),
        _finding("muted, it says nothing of what it hears", _stillness(run, evidence, bundle), "no event, no window"),
    ]
    findings += [_found(each) for each in sought]
    most, least = amount.most_per_second, LEAST_SPEECH_BITS_S
    too_much = [] if most < least else [f"{most:.0f} bit/s could be said, and speech needs {least}"]
    findings.append(
        _finding("its messages are too few for speech", too_much, f"at most {most:.0f} bit/s, speech needs {least}")
    )
    logged = 8 * len(run.words.encode()) / run.heard_s
    too_long = [] if logged < least else [f"{logged:.0f} bit/s, and speech needs {least}"]
    findings.append(_finding("its log is too short for speech", too_long, f"{logged:.0f} bit/s, all told"))
    return findings


def _finding(claim: str, problems: Iterable[str], words: str) -> Finding:
    problems = list(dict.fromkeys(problems))
    shown = "; ".join(problems[:4]) + (f"; and {len(problems) - 4} more" if len(problems) > 4 else "")  # noqa: PLR2004
    return Finding(
        claim=claim, verdict=Verdict.FAILS if problems else Verdict.HOLDS, words=shown if problems else words
    )


def _found(each: Sought) -> Finding:
    problems = []
    if each.found >= each.limit:
        problems.append(f"{each.found:g} in {each.where}, where {each.limit:g} is the limit")
    if each.planted is not None and each.planted < each.limit:
        problems.append(f"a leak that was planted was not found ({each.planted:g}, limit {each.limit:g})")
    words = f"{each.found:g} at most; limit {each.limit:g}"
    if each.by_chance is not None and each.planted is not None:
        words += f"; another signal has {each.by_chance:g}, what was planted {each.planted:g}"
    return _finding(f"not found: {each.what}", problems, words)


def _recording(run: Run, evidence: Evidence) -> list[str]:
    problems = [f"a call that is not understood: {each}" for each in run.deeds.unknown]
    for path, content in run.left.items():
        if not path.endswith("-shm") and bytes(run.deeds.files.get(path, b"")) != content:
            problems.append(f"{path} is not what was seen to be written")
    noted = [
        b"".join(evidence.by_place[place])
        for place, address in run.deeds.connected.items()
        if address == run.broker and place in evidence.by_place
    ]
    if sorted(noted) != sorted(each for each in run.sent if each):
        problems.append("what came to the broker is not what was seen to be sent")
    known = Counter((each.topic, each.payload) for each in evidence.said)
    problems += [
        f"the broker gave out what nobody said, on {each.topic}"
        for each in run.subscriber
        if (each.topic, each.payload) not in known
    ]
    if run.exit_code != 0:
        problems.append(f"the program ended with code {run.exit_code}")
    return problems


def _listening(run: Run, evidence: Evidence) -> list[str]:
    windows = sum(sum(each.windows.values()) for each in _messages(evidence, Telemetry))
    events = sum(1 for _ in _messages(evidence, EmotionEvent))
    problems = []
    if windows < _FEWEST_WINDOWS or not events:
        problems.append(
            f"{windows} windows were classified and {events} events said: a node that does nothing says none"
        )
    if not any(each.topic == EMOTION.at(run.node) for each in run.subscriber):
        problems.append("no event came to a subscriber")
    return problems


def _judged(evidence: Evidence) -> str:
    windows = sum(sum(each.windows.values()) for each in _messages(evidence, Telemetry))
    return f"{windows} windows classified, {sum(1 for _ in _messages(evidence, EmotionEvent))} events"


def _places(run: Run) -> list[str]:
    problems = []
    for path in dict.fromkeys(run.deeds.made):
        name = path.removeprefix(f"{run.folder}/")
        if name != "." and not _FILES.fullmatch(name):
            problems.append(path)
    problems += [f"{path}, by memory" for path in run.deeds.shared if not path.endswith("/outbox.sqlite-shm")]
    return problems


def _network(run: Run) -> list[str]:
    own = {*run.deeds.own, f"{run.folder}/node.sock"}
    problems = [f"connected to {each}" for each in run.deeds.connected.values() if each not in {run.broker, *own}]
    return problems + [f"started {each[:120]}" for each in run.deeds.programs[1:]]


def _refusals(evidence: Evidence, node: NodeId) -> list[str]:
    """Return who takes an event with a field that the contract does not know: a collector, or the node's own outbox."""
    event = next((each.message for each in evidence.said if isinstance(each.message, EmotionEvent)), None)
    if event is None:
        return ["there was no event to add a field to"]
    problems = []
    with contextlib.suppress(MessageError):
        decode(msgspec.json.encode(event)[:-1] + b',"audio":"UklGRg=="}', EmotionEvent, EMOTION.largest_bytes)
        problems.append("a collector takes an event with a field `audio`")
    swollen = msgspec.convert(msgspec.to_builtins(event), _Swollen)
    with tempfile.TemporaryDirectory() as folder:
        outbox = Outbox(OutboxSettings(path=f"{folder}/outbox.sqlite"), WallClock(trusted=True))
        with contextlib.closing(outbox), contextlib.suppress(MessageError):
            outbox.put(EMOTION, node, lambda seq: msgspec.structs.replace(swollen, seq=seq))
            problems.append("the outbox takes an event with a field `audio`, and would publish it")
    return problems


class _Swollen(EmotionEvent, frozen=True, kw_only=True):
    """An event as a careless change could make it."""

    audio: str = "UklGRg=="


def _stillness(run: Run, evidence: Evidence, bundle: Bundle) -> list[str]:
    manifest = bundle.manifest
    problems = [
        f"an event {(each.time_us - run.muted_us) / 1e6:.1f} s after it was muted"
        for each in _messages(evidence, EmotionEvent)
        if each.time_us > run.muted_us + _LATE_US
    ]
    heard = sum(
        sum(each.windows.values()) + each.silent_windows + each.gated_windows for each in _messages(evidence, Telemetry)
    )
    samples = (run.heard_s + _SLACK_S) * manifest.features.sample_rate_hz - manifest.window.length_samples
    most = max(0, samples // manifest.window.hop_samples) + 1
    if heard > most:
        problems.append(f"{heard} windows were heard, and {most:.0f} fit into the time before")
    if not any(each.muted for each in _messages(evidence, NodeStatus)):
        problems.append("no status says that it is muted")
    return problems


def _account(claim: str, evidence: Evidence) -> str:
    if claim == _WIRE:
        rows = Counter(each.row for each in evidence.said)
        return f"{evidence.packets} packets: " + ", ".join(f"{count} {row}" for row, count in rows.items())
    return {
        _LOCAL: "answers to the doctor and to who mutes, wake-ups",
        _DISK: "its tables are an outbox's, and every row can be read",
        _LOG: "each has a time, a level and a module",
    }[claim]


T = TypeVar("T", EmotionEvent, Telemetry, NodeStatus)


def _messages(evidence: Evidence, kind: type[T]) -> Iterable[T]:
    return (each.message for each in evidence.said if isinstance(each.message, kind))
