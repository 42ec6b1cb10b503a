"""What the doctor finds: one verdict a stage, in words, and what to do."""

import enum
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final, Literal

import msgspec

from broker.contract.errors import AudioError, BundleError, LinkError, SettingsError, StoreError

__all__ = ["EXIT_CODES", "Diagnosis", "Finding", "Stage", "Verdict", "diagnose", "fail", "ok", "skip", "warn"]

Fact = str | int | float | bool | None


class Verdict(enum.StrEnum):
    """How a stage stands."""

    OK = "ok"
    WARN = "warn"
    """It works; something is to be looked at."""
    FAIL = "fail"
    SKIPPED = "skipped"
    """Nobody looked, for the reason that is given."""


class Stage(enum.StrEnum):
    """What is looked at, in this order."""

    SETTINGS = "settings"
    LAW = "lawful use"
    SERVICE = "service"
    SOUND = "sound"
    MODEL = "model"
    GATE = "speech gate"
    CLOCK = "clock"
    DISK = "disk"
    MACHINE = "machine"
    CERTIFICATES = "certificates"
    NAME = "broker: name"
    TCP = "broker: TCP"
    TLS = "broker: TLS"
    MQTT = "broker: MQTT"
    PUBLISH = "broker: publish"


_CLASSES: Final = (
    (SettingsError, (Stage.SETTINGS, Stage.LAW, Stage.GATE, Stage.CERTIFICATES)),
    (SettingsError, (Stage.SERVICE, Stage.CLOCK, Stage.MACHINE)),  # of the machine around it
    (AudioError, (Stage.SOUND,)),
    (BundleError, (Stage.MODEL,)),
    (LinkError, (Stage.NAME, Stage.TCP, Stage.TLS, Stage.MQTT, Stage.PUBLISH)),
    (StoreError, (Stage.DISK,)),
)
EXIT_CODES: Final[Mapping[Stage, int]] = MappingProxyType(
    {stage: kind.exit_code for kind, stages in _CLASSES for stage in stages}
)
"""The exit code of a stage that fails: that of the error with which the node itself would end."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What was found at one stage."""

    stage: Stage
    verdict: Verdict
    words: str
    advice: str | None = None
    """What to do; None: nothing."""
    facts: dict[str, Fact] = {}
    """Figures for programs; names end in their units."""


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """All that was found. As JSON, fields are added and never changed without another `schema`."""

    schema: Literal[1] = 1
    node: str | None
    """`<site>/<node>`; None: the settings cannot be read."""
    time_us: int
    """Wall clock, right or not, µs since 1970, UTC."""
    exit_code: int
    """Of the first stage that fails; 0: none does."""
    next: str
    """What to do first."""
    findings: tuple[Finding, ...]


def diagnose(node: str | None, time_us: int, findings: Sequence[Finding]) -> Diagnosis:
    """Return what the findings come to; a stage that nobody has looked at is a skipped one."""
    found = {each.stage: each for each in findings}
    for stage in Stage:
        found.setdefault(stage, skip(stage, "not looked at: the settings cannot be read"))
    ordered = [found[stage] for stage in Stage]
    failed = [each for each in ordered if each.verdict is Verdict.FAIL]
    to_do = [each for each in (*failed, *ordered) if each.verdict in {Verdict.FAIL, Verdict.WARN} and each.advice]
    following = f"{to_do[0].stage}: {to_do[0].advice}" if to_do else "nothing is to be done"
    return Diagnosis(
        node=node,
        time_us=time_us,
        exit_code=EXIT_CODES[failed[0].stage] if failed else 0,
        next=following,
        findings=tuple(ordered),
    )


def ok(stage: Stage, words: str, **facts: Fact) -> Finding:
    """Return that all is well."""
    return Finding(stage=stage, verdict=Verdict.OK, words=words, facts=facts)


def warn(stage: Stage, words: str, advice: str, **facts: Fact) -> Finding:
    """Return that it works, but."""
    return Finding(stage=stage, verdict=Verdict.WARN, words=words, advice=advice, facts=facts)


def fail(stage: Stage, words: str, advice: str, **facts: Fact) -> Finding:
    """Return that it does not work."""
    return Finding(stage=stage, verdict=Verdict.FAIL, words=words, advice=advice, facts=facts)


def skip(stage: Stage, why: str) -> Finding:
    """Return that nobody looked."""
    return Finding(stage=stage, verdict=Verdict.SKIPPED, words=why)
