"""`settings.toml` of a repository: how long signatures hold, and what a release must reach."""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from broker.settings import BrokerSettings

__all__ = ["TEMPLATE", "Gates", "ReleaseSettings"]

Days = Annotated[int, Meta(ge=1, le=3_650)]
Share = Annotated[float, Meta(ge=0, le=1)]


class Gates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a bundle is held against before it is signed."""

    margin: Share = 0.02
    """How much lower each UAR may be than the active release's."""
    model_bytes: Annotated[int, Meta(gt=0)] = 100_000
    """At most: size of model.tflite."""
    latency_ratio: Annotated[float, Meta(gt=0)] = 1.5
    """At most: time of one window on LiteRT, over the active release's."""


class ReleaseSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the repository's owner may choose."""

    offline_days: Days = 365
    """How long signatures of root and targets hold."""
    online_days: Days = 14
    """How long those of snapshot, timestamp and rollout hold: for this long can a broker hold back what is newer."""
    gates: Gates = Gates()
    broker: BrokerSettings | None = None
    """Where every change is mirrored to; None: nowhere."""
    watch: BrokerSettings | None = None
    """Where the nodes' reports are read, as another user; None: nobody steps through a rollout or aborts it."""


TEMPLATE: Final = """\
# How long signatures hold, in days. `sottovoce-release refresh`, once a day, renews those of the online roles; the
# shorter they hold, the sooner nodes notice that a broker holds back what is newer.
offline_days = 365
online_days = 14

# What a bundle must reach to be signed without --force.
[gates]
margin = 0.02          # corpus-macro and pooled UAR may be this much lower than the active release's
model_bytes = 100_000  # largest model.tflite
latency_ratio = 1.5    # longest time of one window, over the active release's

# The broker that nodes update from; every command brings it up to date. Without this, nothing is mirrored.
# [broker]
# host = "broker.lan"
# port = 8883
# ca_file = "/etc/sottovoce/ca.crt"
# cert_file = "/etc/sottovoce/release.crt"   # its common name must be `release`
# key_file = "/etc/sottovoce/release.key"

# The same broker as the user who reads how nodes take a release up: with it, `rollout` stays, steps through the phases
# and aborts, and `watch` shows.
# [watch]
# host = "broker.lan"
# port = 8883
# ca_file = "/etc/sottovoce/ca.crt"
# cert_file = "/etc/sottovoce/watcher.crt"   # its common name must be `watcher`
# key_file = "/etc/sottovoce/watcher.key"
"""
