"""The new model beside the old one: what it counts, what it fails for, and that nobody waits for it."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import settings as example_settings
from hypothesis import strategies as st

from broker.contract.bundle import Bundle
from broker.contract.decision import Label
from broker.contract.errors import BundleError
from broker.contract.updates import TrialFigures
from broker.contract.windows import WindowSpec
from edge_node.classifier import Classifier, verify
from edge_node.clock import WallClock
from edge_node.ota.beside import Beside, Fed, decided
from edge_node.ota.child import ChildError, Ending, Limits
from edge_node.ota.device import Device
from edge_node.ota.folder import Folder
from edge_node.ota.told import ToldGate
from edge_node.ota.trial import Trial, TrialSpec, judge_trial
from edge_node.pipeline import Heard, Pipeline
from edge_node.settings import UpdateSettings
from edge_node.sound.replay import read_recording
from edge_node.sound.sources import Block

pytestmark = pytest.mark.usefixtures("nothing_leaks")

Archive = tuple[Path, str]
Archived = Callable[[Bundle], Archive]
Eventually = Callable[..., None]
SPEC = TrialSpec(windows=50, most_s=60, budget_us=10_000_000, agreement_at_least=0.4)
RATE_HZ = 16_000


@pytest.fixture(scope="module")
def speech(recording: Path) -> np.ndarray:
    """30 s, shape (n,), float32, at 16 kHz."""
    return read_recording(recording)[0]


@pytest.fixture(scope="module")
def classifier(factory: Bundle) -> Classifier:
    return verify(factory, "the factory model")


@pytest.fixture
def old(factory: Bundle, classifier: Classifier) -> Pipeline:
    """What the node runs."""
    return Pipeline(factory.manifest, classifier)


@pytest.fixture
def begin() -> Iterator[Callable[..., Trial]]:
    """Start a trial that is stopped when the test is over."""
    trials = []

    def started(archive: Archive, spec: TrialSpec = SPEC, **options: Any) -> Trial:
        trial = Trial(*archive, spec, **options)
        trials.append(trial)
        trial.start()
        return trial

    yield started
    for trial in trials:
        trial.stop()


@pytest.fixture
def no_more_threads() -> Callable[[], Any]:
    """While this lasts, no thread can be started: each asks for more stack than there are addresses."""

    @contextlib.contextmanager
    def lasting() -> Iterator[None]:
        before = threading.stack_size(1 << 47)
        try:
            yield
        finally:
            threading.stack_size(before)

    return lasting


def _blocks(samples: np.ndarray, rate_hz: int = RATE_HZ) -> Iterator[Block]:
    length = rate_hz // 10
    for start in range(0, len(samples) - length + 1, length):
        end = start + length
        yield Block(samples=samples[start:end], rate_hz=rate_hz, captured_ns=end * 1_000_000_000 // rate_hz)


def _feed(trial: Trial, old: Pipeline, samples: np.ndarray, rate_hz: int = RATE_HZ) -> list[Heard]:
    """Let both hear, faster than a microphone would: the trial of 30 s is shorter than its queue."""
    everything = []
    for block in _blocks(samples, rate_hz):
        heard = list(old.hear(block))
        trial.feed(block, heard)
        everything += heard
    return everything


def _failure(trial: Trial, eventually: Eventually) -> str:
    eventually(trial.outcome)
    outcome = trial.outcome()
    assert isinstance(outcome, BundleError), outcome
    assert len(str(outcome)) <= 200
    return str(outcome)


# --- what is counted


def test_trial_of_the_model_beside_itself_agrees_on_every_window(
    factory: Bundle, archived: Archived, old: Pipeline, speech: np.ndarray, begin: Any, eventually: Eventually
) -> None:
    trial = begin(archived(factory))
    assert trial.outcome() is None
    heard = _feed(trial, old, speech)
    eventually(trial.outcome)
    figures = trial.outcome()
    assert isinstance(figures, TrialFigures)
    assert trial.figures() == figures
    mine = [each.decision for each in heard[:50] if each.decision is not None]
    assert (figures.windows, figures.classified, figures.agreed) == (50, len(mine), len(mine))
    assert len(mine) > 40
    assert figures.labels == {label: [each.label for each in mine].count(label) for label in Label}
    scores = np.histogram([each.confidence for each in mine], bins=10, range=(0, 1))[0]
    assert figures.scores == tuple(scores)
    assert 0 < figures.p50_us <= figures.p95_us
    trial.feed(next(_blocks(speech)), heard)  # it is over: nothing comes of it
    trial.stop()
    assert trial.outcome() is figures


@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
def test_trial_that_begins_amid_a_stream_hears_the_same_windows(
    factory: Bundle,
    archived: Archived,
    old: Pipeline,
    speech: np.ndarray,
    begin: Any,
    eventually: Eventually,
    rate_hz: int,
) -> None:
    samples = soxr.resample(speech, RATE_HZ, rate_hz)
    for block in _blocks(samples[: 73 * rate_hz // 10], rate_hz):
        list(old.hear(block))
    trial = begin(archived(factory), msgspec.structs.replace(SPEC, windows=30))
    _feed(trial, old, samples[73 * rate_hz // 10 :], rate_hz)
    eventually(trial.outcome)
    figures = trial.outcome()
    assert isinstance(figures, TrialFigures)
    assert figures.windows == 30
    assert figures.classified > 25
    assert figures.agreed >= figures.classified - 2  # the new one has smoothed over fewer windows


def test_trial_of_a_model_with_another_hop_is_compared_with_what_was_said_last(
    factory: Bundle, archived: Archived, old: Pipeline, speech: np.ndarray, begin: Any, eventually: Eventually
) -> None:
    manifest = msgspec.structs.replace(factory.manifest, window=WindowSpec(length_samples=48_000, hop_samples=3_200))
    trial = begin(archived(msgspec.structs.replace(factory, manifest=manifest)))
    _feed(trial, old, speech)
    eventually(trial.outcome)
    figures = trial.outcome()
    assert isinstance(figures, TrialFigures)
    assert figures.windows == 50
    assert figures.agreed > figures.classified / 2


def test_trial_in_a_quiet_room_ends_with_the_time_and_is_passed(
    factory: Bundle, archived: Archived, old: Pipeline, begin: Any, eventually: Eventually
) -> None:
    trial = begin(archived(factory), msgspec.structs.replace(SPEC, most_s=2))
    _feed(trial, old, np.zeros(6 * RATE_HZ, np.float32))
    eventually(trial.outcome)
    figures = trial.outcome()
    assert isinstance(figures, TrialFigures)
    assert figures.windows <= 7
    assert (figures.classified, figures.p95_us) == (0, 0)


def test_trial_that_hears_nothing_at_all_is_passed(
    factory: Bundle, archived: Archived, begin: Any, eventually: Eventually
) -> None:
    trial = begin(archived(factory), msgspec.structs.replace(SPEC, most_s=0.1), stall_s=0.01)
    eventually(trial.outcome)
    assert isinstance(trial.outcome(), TrialFigures)


# --- what it fails for


@pytest.mark.parametrize(
    "case",
    [
        ("NaN when loud", {}, "trial: the model's probabilities are not finite, or do not add up to 1"),
        ("endless when loud", {"stall_s": 2}, "trial: hung: no word for 2 s"),
        ("greedy when loud", {}, "trial: memory: needs more than 256 MiB"),
        ("broken when loud", {}, "trial: LiteRT fails on what is heard: "),
        ("recursive", {}, "trial: crashed: the runtime was killed by SIGSEGV"),
        ("greedy", {"limits": Limits(memory_bytes=2**26)}, "trial: memory: needs more than 64 MiB"),
    ],
    ids=lambda case: case[0],
)
def test_trial_of_a_model_that_does_harm_fails(
    bundle_with: Callable[..., Bundle],
    archived: Archived,
    old: Pipeline,
    speech: np.ndarray,
    begin: Any,
    eventually: Eventually,
    case: tuple[str, dict[str, Any], str],
) -> None:
    kind, options, words = case
    trial = begin(archived(bundle_with(kind)), **options)
    _feed(trial, old, speech)
    assert _failure(trial, eventually).startswith(words)
    _feed(trial, old, speech)  # the node goes on


def test_trial_of_a_model_that_always_says_the_same_fails(
    bundle_with: Callable[..., Bundle],
    archived: Archived,
    old: Pipeline,
    speech: np.ndarray,
    begin: Any,
    eventually: Eventually,
) -> None:
    trial = begin(archived(bundle_with("harmless")))
    heard = _feed(trial, old, speech)
    share = sum(each.decision is not None and each.decision.label is Label.PLEASANT for each in heard) / len(heard)
    assert share < 0.3  # or the recording proves nothing
    words = _failure(trial, eventually)
    assert words.startswith("trial: agrees with the old model on ")
    assert words.endswith(" windows, 40 % are due")
    figures = trial.figures()
    assert figures is not None
    assert figures.labels[Label.PLEASANT] == figures.classified >= 40


def test_trial_of_a_slow_model_fails(
    factory: Bundle, archived: Archived, old: Pipeline, speech: np.ndarray, begin: Any, eventually: Eventually
) -> None:
    trial = begin(archived(factory), msgspec.structs.replace(SPEC, budget_us=1))
    _feed(trial, old, speech)
    assert _failure(trial, eventually).endswith(" ms, the budget is 0.001 ms")


def test_trial_of_a_file_that_is_no_bundle_fails(
    factory: Bundle, archived: Archived, begin: Any, eventually: Eventually
) -> None:
    path, _ = archived(factory)
    trial = begin((path, "0" * 64))
    assert _failure(trial, eventually).startswith("trial: digest: ")


# --- what happens to the child


def test_trial_whose_child_is_killed_fails_and_the_node_goes_on(
    factory: Bundle, archived: Archived, old: Pipeline, speech: np.ndarray, begin: Any, eventually: Eventually
) -> None:
    trial = begin(archived(factory))
    _feed(trial, old, speech[: 10 * RATE_HZ])
    eventually(lambda: (figures := trial.figures()) is not None and figures.windows)
    os.kill(trial._child.pid, signal.SIGKILL)
    _feed(trial, old, speech[10 * RATE_HZ :])
    assert _failure(trial, eventually) == "trial: crashed: the runtime was killed by SIGKILL"
    figures = trial.figures()
    assert figures is not None
    assert figures.windows > 0


def test_trial_whose_child_stands_still_keeps_no_more_than_its_queue(
    factory: Bundle, archived: Archived, old: Pipeline, speech: np.ndarray, begin: Any, eventually: Eventually
) -> None:
    trial = begin(archived(factory), most_blocks=20)
    eventually(trial.figures)
    os.kill(trial._child.pid, signal.SIGSTOP)
    longest = 0
    while trial.outcome() is None:
        _feed(trial, old, speech[: 3 * RATE_HZ])
        longest = max(longest, len(trial._queue))
    assert longest <= 20
    assert _failure(trial, eventually) == "trial: the model cannot keep up: 2 s of audio wait for it"
    assert not trial._queue


_NODE = """
import os, signal, sys, time
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from edge_node.ota.device import Device
from edge_node.ota.folder import Folder
from edge_node.ota.trial import Trial, TrialSpec
from edge_node.sound.sources import Block

archive, sha256, recording = sys.argv[1:]
spec = TrialSpec(windows=10, most_s=3, budget_us=10_000_000, agreement_at_least=0)
trial = Trial(Path(archive), sha256, spec, stall_s=3)
for number, samples in enumerate(np.load(recording), 1):
    old = [SimpleNamespace(end_s=number / 10, decision=None, gated=False)] if number >= 30 and number % 5 == 0 else []
    trial.feed(Block(samples=samples, rate_hz=16_000, captured_ns=number * 100_000_000), old)
trial.start()
while not trial._sent:
    time.sleep(0.001)  # the trial's thread is to begin
os.kill(os.getpid(), signal.SIGSTOP)
while trial.outcome() is None:
    time.sleep(0.01)  # the child is to end
print(getattr(trial.outcome(), "windows", trial.outcome()))
trial.stop()
"""


def test_trial_goes_on_after_a_pause_of_the_node(
    factory: Bundle, archived: Archived, speech: np.ndarray, tmp_path: Path
) -> None:
    """What the child said meanwhile is read, and neither its silence nor the trial's time counts."""
    node, recording = tmp_path / "node.py", tmp_path / "blocks.npy"
    node.write_text(_NODE)
    np.save(recording, speech[: 15 * RATE_HZ].reshape(-1, RATE_HZ // 10))
    command: list[str | Path] = [sys.executable, node, *archived(factory), recording]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as running:
        os.waitid(os.P_PID, running.pid, os.WSTOPPED)
        time.sleep(3.5)  # longer than the trial, than a child may be silent, and than what counts as a pause
        running.send_signal(signal.SIGCONT)
        said = running.communicate()[0]
    assert said == b"10\n"


def _not_started(trial: Trial) -> str:
    outcome = trial.outcome()
    assert isinstance(outcome, ChildError)
    assert outcome.ending is Ending.NOT_STARTED
    return str(outcome)


def test_trial_that_cannot_be_started_says_nothing_about_the_model(
    factory: Bundle, archived: Archived, begin: Any, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    trial = begin(archived(factory))
    eventually(trial.outcome)
    assert _not_started(trial) == "cannot be started: No such file or directory"


def test_trial_without_a_thread_says_nothing_about_the_model(
    factory: Bundle, archived: Archived, begin: Any, no_more_threads: Callable[[], Any]
) -> None:
    archive = archived(factory)
    with no_more_threads():
        trial = begin(archive)
    assert _not_started(trial) == "cannot be started: can't start new thread"


def test_trial_that_could_not_be_started_is_begun_again_later(
    factory: Bundle, archived: Archived, tmp_path: Path, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Any] = []
    device = Device(
        UpdateSettings(anchor="none"), Folder(tmp_path / "update"), WallClock(trusted=True), told.append, told.append
    )
    archive, sha256 = archived(factory)
    archive.rename(device._folder.candidate)
    now_s = [1000.0]
    monkeypatch.setattr(device, "monotonic_s", lambda: now_s[0])
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", "/nowhere/python")
        device.begin_trial(SimpleNamespace(sha256=sha256))  # type: ignore[arg-type]  # all it needs of an offer
        eventually(cast("Trial", device.trial).outcome)
        device.look_at_trial()
    now_s[0] += 59
    device.look_at_trial()
    assert not device.trial
    assert told == []
    now_s[0] += 2
    device.look_at_trial()
    eventually(cast("Trial", device.trial).figures)
    device.look_at_trial()
    assert len(told) == 1  # how far it is
    device.cancel()
    now_s[0] += 100
    device.look_at_trial()
    assert not device.trial


def test_trial_that_is_stopped_has_no_outcome(
    factory: Bundle, archived: Archived, old: Pipeline, speech: np.ndarray, begin: Any
) -> None:
    trial = begin(archived(factory))
    _feed(trial, old, speech[: 5 * RATE_HZ])
    trial.stop()
    trial.stop()
    assert trial.outcome() is None
    trial.feed(next(_blocks(speech)), ())
    never = Trial(*archived(factory), SPEC)
    never.stop()
    assert never.outcome() is None


def test_trial_of_something_that_is_no_audio_fails_in_words(
    factory: Bundle, archived: Archived, begin: Any, eventually: Eventually
) -> None:
    """A defect of ours must not leave the update waiting for ever."""
    trial = begin(archived(factory))
    trial.feed(b"no block", ())
    assert _failure(trial, eventually).startswith("trial: ended by a defect of this program: ")


# --- pure parts


def _figures(classified: int = 100, agreed: int = 100, p95_us: int = 1000) -> TrialFigures:
    return TrialFigures(
        windows=classified + 5,
        classified=classified,
        agreed=agreed,
        p50_us=p95_us // 2,
        p95_us=p95_us,
        scores=(0,) * 9 + (classified,),
        labels={Label.NEUTRAL: classified},
    )


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        (_figures(), None),
        (_figures(classified=0, agreed=0, p95_us=0), None),
        (_figures(p95_us=50_000), None),
        (_figures(p95_us=50_001), "95 % of 100 windows take up to 50 ms, the budget is 50 ms"),
        (_figures(p95_us=61_234), "95 % of 100 windows take up to 61.2 ms, the budget is 50 ms"),
        (_figures(classified=20, agreed=20, p95_us=61_234), None),
        (_figures(agreed=40), None),
        (_figures(agreed=39), "agrees with the old model on 39 % of 100 windows, 40 % are due"),
        (_figures(classified=40, agreed=15), "agrees with the old model on 38 % of 40 windows, 40 % are due"),
        (_figures(classified=39, agreed=0), None),
    ],
)
def test_judgement_of_figures(figures: TrialFigures, words: str | None) -> None:
    spec = TrialSpec(windows=120, most_s=60, budget_us=50_000, agreement_at_least=0.4)
    assert judge_trial(figures, spec) == words


@pytest.mark.parametrize(
    ("end_s", "label"),
    [
        (3.0, Label.NEUTRAL),
        (3.1, Label.NEUTRAL),
        (3.25, Label.NEUTRAL),
        (3.4, Label.UNPLEASANT),
        (2.7, None),
        (4.2, Label.UNPLEASANT),
        (4.3, Label.UNPLEASANT),
        (5.5, Label.PLEASANT),
    ],
)
def test_decision_that_belongs_to_a_window_is_the_nearest_or_the_last(end_s: float, label: Label | None) -> None:
    old = ((3.0, Label.NEUTRAL), (3.5, Label.UNPLEASANT), (5.0, Label.PLEASANT))
    found = decided(old, end_s, 0.25)
    assert (None if found is None else found[1]) == label


@given(data=st.data())
@example_settings(max_examples=15)
def test_beside_itself_a_model_agrees_whatever_the_cut_the_gaps_and_the_rates(
    factory: Bundle, classifier: Classifier, speech: np.ndarray, data: st.DataObject
) -> None:
    old, beside = Pipeline(factory.manifest, classifier), Beside(factory.manifest, classifier, 10_000)
    decisions = 0
    for rate_hz in data.draw(st.lists(st.sampled_from([16_000, 44_100, 48_000]), min_size=1, max_size=3)):
        at = data.draw(st.integers(0, 15 * RATE_HZ))
        samples = soxr.resample(speech[at : at + 8 * RATE_HZ], RATE_HZ, rate_hz)
        cuts = sorted(data.draw(st.lists(st.integers(0, len(samples)), max_size=30)))
        gap = data.draw(st.booleans())
        for part in np.split(samples, cuts):
            block = Block(samples=part, rate_hz=rate_hz, captured_ns=0, gap=gap)
            gap = False
            said = tuple((each.end_s, each.decision.label if each.decision else None) for each in old.hear(block))
            decisions += len(said)
            beside.hear(Fed(samples=part.tobytes(), rate_hz=rate_hz, captured_ns=0, gap=block.gap, old=said))
    figures = beside.line().figures
    assert figures.windows == decisions > 0
    assert figures.agreed == figures.classified
    assert sum(figures.scores) == sum(figures.labels.values()) == figures.classified


@pytest.mark.parametrize(("late", "unjudged"), [(0, 6), (1, 9)], ids=["told at once", "told a block later"])
def test_beside_judges_no_window_that_the_nodes_gate_refused(
    factory: Bundle, classifier: Classifier, speech: np.ndarray, late: int, unjudged: int
) -> None:
    """Nor does it count one of which it is told too late; until it knows better, it believes what was said last."""
    refused = {4.5, 5.0, 7.0, 7.5, 8.0, 11.5}
    old = Pipeline(factory.manifest, classifier, ToldGate(lambda end_s: end_s in refused))
    beside = Beside(factory.manifest, classifier, 10_000)
    heard: deque[list[Heard]] = deque([[]] * late)
    for block in _blocks(speech[: 16 * RATE_HZ]):
        heard.append(list(old.hear(block)))
        said = heard.popleft()
        fed = Fed(
            samples=block.samples.tobytes(),
            rate_hz=RATE_HZ,
            captured_ns=0,
            gap=block.captured_ns == 100_000_000,
            old=tuple((each.end_s, each.decision.label if each.decision else None) for each in said),
            refused=tuple(each.end_s for each in said if each.gated),
        )
        beside.hear(fed)
    figures = beside.line().figures
    assert figures.windows == 27 - late  # from 3 s to 16 s
    assert figures.classified == figures.windows - unjudged


def test_beside_smooths_over_no_window_that_the_nodes_gate_refused(
    factory: Bundle, classifier: Classifier, speech: np.ndarray
) -> None:
    """So that a model agrees with itself: what was refused begins both anew."""
    old = Pipeline(factory.manifest, classifier, ToldGate(lambda end_s: round(2 * end_s) % 5 < 2))
    beside = Beside(factory.manifest, classifier, 10_000)
    for number, block in enumerate(_blocks(speech)):
        heard = list(old.hear(block))
        fed = Fed(
            samples=block.samples.tobytes(),
            rate_hz=RATE_HZ,
            captured_ns=0,
            gap=number == 0,
            old=tuple((each.end_s, each.decision.label if each.decision else None) for each in heard),
            refused=tuple(each.end_s for each in heard if each.gated),
        )
        beside.hear(fed)
    figures = beside.line().figures
    assert figures.agreed == figures.classified == 33


def test_trial_is_told_what_the_nodes_gate_refused(
    factory: Bundle, classifier: Classifier, archived: Archived, begin: Any, eventually: Eventually, speech: np.ndarray
) -> None:
    old = Pipeline(factory.manifest, classifier, ToldGate(lambda end_s: end_s < 12))
    trial = begin(archived(factory), SPEC)
    heard = _feed(trial, old, speech)
    eventually(trial.outcome)
    outcome = trial.outcome()
    assert isinstance(outcome, TrialFigures)
    assert sum(each.gated for each in heard[:50]) == 18
    assert (outcome.windows, outcome.classified, outcome.agreed) == (50, 32, 32)


def test_beside_enters_a_stream_where_the_old_model_has_ended_a_window(
    factory: Bundle, classifier: Classifier, old: Pipeline, speech: np.ndarray
) -> None:
    """So that both hear the same samples: their windows end in the same blocks."""
    beside = Beside(factory.manifest, classifier, 10_000)
    for number, block in enumerate(_blocks(speech[: 15 * RATE_HZ])):
        heard = list(old.hear(block))
        if number >= 73:
            said = tuple((each.end_s, each.decision.label if each.decision else None) for each in heard)
            beside.hear(Fed(samples=block.samples.tobytes(), rate_hz=RATE_HZ, captured_ns=0, gap=False, old=said))
            assert not beside._new  # none that the old one has not
    assert beside.line().figures.windows == 10  # entered at 7.5 s, and 3 s later there is the first


def test_beside_a_model_that_begins_anew_without_a_gap_does_so_too(
    factory: Bundle, classifier: Classifier, speech: np.ndarray
) -> None:
    """As when the node is given the same model again."""
    beside = Beside(factory.manifest, classifier, 10_000)
    for _ in range(2):
        old = Pipeline(factory.manifest, classifier)
        for block in _blocks(speech[: 10 * RATE_HZ]):
            said = tuple((each.end_s, each.decision.label if each.decision else None) for each in old.hear(block))
            beside.hear(Fed(samples=block.samples.tobytes(), rate_hz=RATE_HZ, captured_ns=0, gap=False, old=said))
    figures = beside.line().figures
    assert figures.windows == 15 + 9  # a window's length is lost where the new one enters
    assert figures.agreed >= figures.classified - 2
