"""The repository on a real broker: what nodes find there is what was signed, whatever the broker has been through."""

import hashlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.connection import Arrived
from broker.contract.errors import LinkError, ReleaseError
from broker.contract.topics import CHUNK, METADATA, RELEASE_USER, NodeId
from broker.verify import check_archive, verify
from training.release.__main__ import main
from training.release.mirror import inspect, mirror, retained
from training.release.repository import Repository
from training.release.roles import Keep

MakeBundle = Callable[..., bytes]
NODE = NodeId("home", "kitchen")
FORKED = NodeId("home", "fork")
WAIT_S = 15.0


def _bring_up(place: Any, repository: Repository) -> tuple[int, int, int]:
    done = mirror(place.settings(), retained(repository.files), wait_s=WAIT_S)
    return done.messages, done.sent, done.removed


def test_mirror_a_node_finds_what_was_signed(
    site: Any, place: Any, bundle_of: MakeBundle, subscribe: Callable[..., Any], tmp_path: Path
) -> None:
    data = bundle_of(1, model=bytes(90_000))
    site.release(data)
    watching = subscribe(str(FORKED), METADATA.every, CHUNK.every)
    count, sent, removed = _bring_up(place, site.open())
    assert (count, removed) == (sent, 0)
    watching.until(lambda event: isinstance(event, Arrived) and event.topic.endswith("timestamp.json"))
    topics = [each.topic for each in watching.arrived if each.topic != METADATA.at("1.root.json")]
    assert topics[-1] == METADATA.at("timestamp.json"), "whoever sees the timestamp finds the rest"
    assert [topic.split("/")[3] for topic in topics] == sorted(topic.split("/")[3] for topic in topics)
    assert len(topics) == count - 1

    node = subscribe(str(NODE), METADATA.every)
    node.until(lambda _event: len(node.arrived) == count - len(list((site.folder / "chunks").iterdir())))
    (tmp_path / "mirror").mkdir()
    for each in node.arrived:
        (tmp_path / "mirror" / str(METADATA.name_in(each.topic))).write_bytes(each.payload)
    offer = verify(
        tmp_path / "mirror", tmp_path / "trusted", (site.folder / "metadata" / "1.root.json").read_bytes(), "stable"
    )
    node.stop()
    fetching = subscribe(str(NODE), *(CHUNK.at(chunk.sha256) for chunk in offer.release.chunks))
    fetching.until(lambda _event: len(fetching.arrived) == len(offer.release.chunks))
    parts = {str(CHUNK.name_in(each.topic)): each.payload for each in fetching.arrived}
    check_archive(offer, b"".join(parts[chunk.sha256] for chunk in offer.release.chunks))


def test_mirror_again_sends_nothing_and_a_change_only_what_is_new(site: Any, place: Any, bundle_of: MakeBundle) -> None:
    site.release(bundle_of(1))
    first, sent, _ = _bring_up(place, site.open())
    assert _bring_up(place, site.open()) == (first, 0, 0)
    site.open().settle(renew=True)
    assert _bring_up(place, site.open()) == (first, 1, 0), "the timestamp"
    site.release(bundle_of(2))
    site.release(bundle_of(3))
    count, sent, removed = _bring_up(place, site.open())
    assert count == first - removed + sent - 1, "what no client can ask for any more is gone; one was replaced"
    assert removed > 0
    assert _bring_up(place, site.open()) == (count, 0, 0)


def test_mirror_restores_a_broker_that_lost_what_it_retained(site: Any, place: Any, bundle_of: MakeBundle) -> None:
    site.release(bundle_of(1))
    count, *_ = _bring_up(place, site.open())
    place.broker.kill()
    place.broker.forget_state()
    place.broker.start()
    assert _bring_up(place, site.open()) == (count, count, 0)


def test_mirror_replaces_what_somebody_else_put_there(
    site: Any, place: Any, bundle_of: MakeBundle, subscribe: Callable[..., Any]
) -> None:
    site.release(bundle_of(1))
    count, *_ = _bring_up(place, site.open())
    thief = subscribe(RELEASE_USER)
    chunk = next((site.folder / "chunks").iterdir()).name
    for topic, payload in (
        (METADATA.at("timestamp.json"), b"forged"),
        (CHUNK.at(chunk), b"forged"),
        (METADATA.at("9.root.json"), b"forged"),
        (CHUNK.at(hashlib.sha256(b"x").hexdigest()), b"x"),
    ):
        thief.publish(topic, payload)
    thief.stop()
    assert _bring_up(place, site.open()) == (count, 2, 2)


def test_mirror_as_another_user_is_told_whose_topics_these_are(site: Any, place: Any, bundle_of: MakeBundle) -> None:
    site.release(bundle_of(1))
    with pytest.raises(LinkError, match=r"refuses .*1\.root\.json \(0x87\); the ACL lets the user 'release' alone"):
        mirror(place.settings("collector"), retained(site.open().files), wait_s=3)


def test_mirror_broker_with_a_smaller_packet_limit_is_told_before_anything_is_sent(
    site: Any, place: Any, bundle_of: MakeBundle, tmp_path: Path
) -> None:
    configuration = tmp_path / "broker" / "mosquitto.conf"
    configuration.write_text(configuration.read_text().replace("max_packet_size 66560", "max_packet_size 4096"))
    place.broker.kill()
    place.broker.start()
    data = bundle_of(1, model=hashlib.shake_256(b"x").digest(20_000))
    site.release(data)
    with pytest.raises(LinkError, match=r"takes packets of 4,096 bytes at most, .* raise max_packet_size"):
        mirror(place.settings(), retained(site.open().files), wait_s=WAIT_S)


def test_mirror_payload_that_no_broker_should_get_is_refused(site: Any, place: Any) -> None:
    files = retained(site.open().files) | {CHUNK.at("0" * 64): bytes(65_537)}
    with pytest.raises(ReleaseError, match="65,537 bytes, at most 65,536"):
        mirror(place.settings(), files)


def test_mirror_without_a_broker_is_given_up(site: Any, place: Any) -> None:
    place.broker.kill()
    with pytest.raises(
        LinkError, match=r"no connection, or no answer to SUBSCRIBE within 0.5 s|the connection was lost"
    ):
        mirror(place.settings(), retained(site.open().files), wait_s=0.5)


def test_inspect_refuses_to_mirror_what_every_node_would_refuse(
    site: Any, make_site: Any, bundle_of: MakeBundle
) -> None:
    inspect(site.open().files, [])
    site.release(bundle_of(1))
    inspect(site.open().files, ["stable"])
    late = make_site("late", ago=timedelta(days=20))
    late.release(bundle_of(1))
    with pytest.raises(ReleaseError, match="not mirrored, as every node would refuse it: expired"):
        inspect(late.open().files, ["stable"])


def test_commands_mirror_what_they_sign(
    place: Any, tmp_path: Path, bundle_of: MakeBundle, monkeypatch: Any, capsys: Any, passphrase: Any
) -> None:
    for keep in Keep:
        monkeypatch.setenv(f"{keep}_WORD", passphrase(keep))
    words = [f"--{keep}-passphrase-env={keep}_WORD" for keep in Keep]
    where = ["--repository", str(tmp_path / "releases")]
    (tmp_path / "a.bundle").write_bytes(bundle_of(1))
    assert main(["init", *where, *words]) == 0
    assert main(["reseed", *where, *words]) == 2
    assert "names no [broker] to mirror to" in capsys.readouterr().err
    with (tmp_path / "releases" / "settings.toml").open("a") as file:
        file.write(place.section("broker", RELEASE_USER))
    assert main(["add", str(tmp_path / "a.bundle"), *where, *words]) == 0
    assert "read back all" in capsys.readouterr().out
    assert main(["publish", *where, *words]) == 0
    assert main(["reseed", *where, *words]) == 0
    assert "sent 0, removed 0, read back all" in capsys.readouterr().out.splitlines()[-1]
