"""Which release a channel's nodes run, and how many of them: `publish`, `rollout`, `pause`, `resume`, `abort`.

Each changes one document, which the online key signs. `step` is the controller's.
"""

from collections.abc import Sequence

import msgspec
from tuf.api.metadata import TargetFile

from broker.contract.errors import MessageError, ReleaseError, SettingsError
from broker.contract.release import Rollout, channel_target, read_rollout
from training.release.repository import Repository
from training.release.roles import Role

__all__ = ["abort", "document", "pause", "publish", "resume", "roll_out", "step"]


def publish(repository: Repository, channel: str, release: str, *, downgrade: bool = False) -> Rollout:
    """Let a channel name a release; no node takes it up before `roll_out` says how many.

    Args:
        repository: where.
        channel: which one; made when it is new.
        release: a signed one, as `<name>/<version>`.
        downgrade: whether nodes that run a newer version of it are to go back.

    Raises:
        ReleaseError: it is not signed, or older than what the channel names and no downgrade is ordered.
        SettingsError: the channel's name is not allowed.
    """
    repository.release(release)
    before = repository.channels().get(channel)
    if before is not None and not downgrade and _is_older(release, before.release):
        msg = f"{release} is older than {before.release}, which channel {channel} names; --downgrade orders nodes back"
        raise ReleaseError(msg)
    return _write(repository, Rollout(channel=channel, release=release, percent=0, downgrade=downgrade))


def roll_out(
    repository: Repository,
    channel: str,
    release: str,
    *,
    phases: Sequence[int],
    spread_s: int,
    abort_above: int,
    min_nodes: int,
) -> Rollout:
    """Let the first of some percentages take up the release that a channel names.

    Args:
        repository: where.
        channel: which one.
        release: what it must name, so that nobody rolls out another than they think.
        phases: percentages, rising; the first holds from now on.
        spread_s: within which time the nodes that are in begin.
        abort_above: percentage of failures above which a controller aborts.
        min_nodes: nodes that must have executed before it does.

    Raises:
        ReleaseError: the channel names another release, or was aborted.
        SettingsError: a value is not allowed.
    """
    now = document(repository, channel)
    if now.release != release:
        msg = f"channel {channel} names {now.release}, not {release}; `sottovoce-release publish {release}` first"
        raise ReleaseError(msg)
    if now.aborted:
        msg = f"{release} was aborted on channel {channel}; publish it again, or another, to begin anew"
        raise ReleaseError(msg)
    if not phases:
        msg = "--percent: name at least one percentage"
        raise SettingsError(msg)
    changed = {"percent": phases[0], "phases": tuple(phases), "spread_s": spread_s, "paused": False, "reason": ""}
    return _change(repository, now, **changed, abort_above=abort_above, min_nodes=min_nodes)


def step(repository: Repository, channel: str, percent: int) -> Rollout:
    """Let another percentage of the nodes take up what the channel names; everything else stays as it is.

    Raises:
        ReleaseError: the channel names no release, or was aborted.
    """
    return _change(repository, _running(repository, channel), percent=percent)


def pause(repository: Repository, channel: str, reason: str) -> Rollout:
    """Let no further node begin; who has begun goes on."""
    return _change(repository, _running(repository, channel), paused=True, reason=reason)


def resume(repository: Repository, channel: str) -> Rollout:
    """Let nodes begin again."""
    now = _running(repository, channel)
    if not now.paused:
        msg = f"channel {channel} is not paused"
        raise ReleaseError(msg)
    return _change(repository, now, paused=False, reason="")


def abort(repository: Repository, channel: str, reason: str) -> Rollout:
    """Let no further node begin, and those that have not finished go back; who has finished stays."""
    return _change(repository, _running(repository, channel), aborted=True, paused=False, reason=reason)


def document(repository: Repository, channel: str) -> Rollout:
    """Return what a channel is told.

    Raises:
        ReleaseError: it names no release yet.
    """
    channels = repository.channels()
    if channel not in channels:
        known = ", ".join(channels) or "none"
        msg = f"channel {channel} names no release yet (known: {known}); `sottovoce-release publish` first"
        raise ReleaseError(msg)
    return channels[channel]


def _running(repository: Repository, channel: str) -> Rollout:
    now = document(repository, channel)
    if now.aborted:
        msg = f"{now.release} was aborted on channel {channel} already"
        raise ReleaseError(msg)
    return now


def _change(repository: Repository, now: Rollout, **changes: object) -> Rollout:
    return _write(repository, msgspec.structs.replace(now, **changes))


def _write(repository: Repository, rollout: Rollout) -> Rollout:
    """Sign a channel's document, after a look at it with a reader's eyes."""
    path, custom = channel_target(rollout.channel), msgspec.to_builtins(rollout)
    try:
        read_rollout(custom, path)
    except MessageError as error:
        raise SettingsError(str(error)) from error
    metadata = repository.rollout()
    target = TargetFile.from_data(path, msgspec.json.encode(rollout), ["sha256"])
    target.unrecognized_fields["custom"] = custom
    metadata.signed.targets[path] = target
    repository.sign_online(metadata, Role.ROLLOUT, repository.targets().signed)
    repository.settle()
    return rollout


def _is_older(release: str, than: str) -> bool:
    (name, _, version), (other, _, newer) = release.rpartition("/"), than.rpartition("/")
    return name == other and int(version) < int(newer)
