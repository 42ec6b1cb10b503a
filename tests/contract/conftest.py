"""What the tests of the contract share: signals, valid messages and a small bundle."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from broker.contract.bundle import Bundle, Golden, Manifest, Training
from broker.contract.commands import Reply
from broker.contract.condition import Context, Quantiles
from broker.contract.decision import CLASSES, DecisionSpec, Label
from broker.contract.features import FeatureSpec, Normalisation
from broker.contract.home_assistant import describe
from broker.contract.messages import EmotionEvent, EventLatency, NodeStatus, Stage, StatusReason, Telemetry, Versions
from broker.contract.topics import NodeId
from broker.contract.updates import TrialFigures, UpdateReport, UpdateState
from broker.contract.windows import WindowSpec

settings.register_profile("no deadline", deadline=None)  # a shared machine may sleep in any example
settings.load_profile("no deadline")

Reference = Callable[[np.ndarray, FeatureSpec], np.ndarray]


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    return Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="session")
def reference(golden_folder: Path) -> Reference:
    """The MFCC that golden/make.py computes with librosa's pieces."""
    function: Reference = runpy.run_path(str(golden_folder / "make.py"))["reference"]
    return function


@pytest.fixture(scope="session")
def event() -> EmotionEvent:
    return EmotionEvent(
        boot_id="0123456789abcdef",
        time_us=1_700_000_000_000_000,
        seq=7,
        mono_us=12_000_000,
        clock_synced=True,
        label=Label.PLEASANT,
        confidence=0.625,
        model="factory/1",
        latency_us=EventLatency(capture=900, resample=40, features=600, inference=90, decision=10, total=1_700),
    )


@pytest.fixture(scope="session")
def messages(event: EmotionEvent) -> dict[str, Any]:
    """One valid message for each row of the table, by the row's name."""
    status = NodeStatus(
        boot_id=event.boot_id,
        time_us=event.time_us,
        online=True,
        reason=StatusReason.BIRTH,
        versions=Versions(sottovoce="0.1.0", python="3.11.2", litert="2.3.0"),
        model=event.model,
        context=Context.HOME,
        source="microphone: built-in",
        muted=False,
        clock_synced=False,
    )
    telemetry = Telemetry(
        boot_id=event.boot_id,
        time_us=event.time_us,
        seq=3,
        outbox_id="fedcba9876543210",
        mono_us=event.mono_us,
        clock_synced=True,
        interval_us=10_000_000,
        windows=dict.fromkeys(Label, 5),
        silent_windows=2,
        latency_us={stage: Quantiles(count=20, p50=100, p95=180, p99=250) for stage in Stage},
        emitted=11,
        outbox_dropped=0,
        outbox_depth=1,
        outbox_age_us=400,
        refused_events=0,
        dropped_blocks=0,
        reconnects=1,
        rss_bytes=41_000_000,
        cpu_share=0.0125,
        temperature_c=None,
    )
    update = UpdateReport(
        boot_id=event.boot_id,
        time_us=event.time_us,
        release="factory/2",
        state=UpdateState.DOWNLOADING,
        reason="",
        progress=0.5,
        trial=TrialFigures(
            windows=60,
            classified=40,
            agreed=37,
            p50_us=1_100,
            p95_us=1_900,
            scores=(0, 0, 0, 0, 4, 6, 10, 10, 8, 2),
            labels={Label.NEUTRAL: 40},
        ),
    )
    reply = Reply(
        boot_id=event.boot_id,
        time_us=event.time_us,
        command="00112233445566ff",
        done=False,
        words="there is no model to go back to",
    )
    discovery = describe(NodeId("home", "kitchen"), status.versions, takes_updates=True)
    said = {"status": status, "emotion": event, "telemetry": telemetry, "update": update, "reply": reply}
    return {**said, "discovery": discovery}


@pytest.fixture
def bundle() -> Bundle:
    """A whole bundle whose model is no model: the contract does not run it."""
    features = FeatureSpec(coefficients=13, fft_samples=512, hop_samples=256)
    window = WindowSpec(length_samples=4_000, hop_samples=2_000)
    manifest = Manifest(
        name="made",
        version=3,
        created="2026-01-31",
        labels=CLASSES,
        features=features,
        normalisation=Normalisation(mean=(0.5,) * 13, deviation=(2.0,) * 13),
        window=window,
        decision=DecisionSpec(),
        litert_at_least="2.1.0",
        training=Training(
            experiment="none",
            split="none",
            trained_speakers=("corpus_1",),
            validation_speakers=(),
            held_out_speakers=("corpus_2",),
        ),
        members={},
    )
    rng = np.random.default_rng(1)
    return Bundle(
        manifest=manifest,
        model=bytes(range(256)) * 8,
        reference=None,
        golden=Golden(
            features=rng.standard_normal((2, *manifest.input_shape)).astype(np.float32),
            probabilities=np.full((2, 3), 1 / 3, dtype=np.float32),
        ),
        card={"accuracy": 0.5, "note": "µ"},
        licence="Nobody may use it.\n",
    )
