"""One table of topics, and everything that is generated from it."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.contract import (
    bundle,
    commands,
    condition,
    decision,
    device,
    drift,
    errors,
    features,
    generate,
    home_assistant,
    mel,
    messages,
    pitch,
    release,
    stream,
    topics,
    updates,
    windows,
)
from broker.contract.errors import MessageError, SettingsError
from broker.contract.generate import access_rules, asyncapi, markdown_table
from broker.contract.topics import (
    CHUNK,
    COMMAND_TOPICS,
    METADATA,
    NODE_TOPICS,
    RELEASE_TOPICS,
    TABLE,
    NodeId,
    NodeTopic,
    find,
)

ROOT = Path(__file__).parents[2]
NAMES = st.from_regex(r"[a-z0-9][a-z0-9-]{0,31}", fullmatch=True)


@given(NAMES, NAMES)
def test_find_is_the_inverse_of_at(site: str, node: str) -> None:
    for row in NODE_TOPICS:
        assert find(row.at(NodeId(site, node))) == (row, NodeId(site, node))


@given(st.text(max_size=60))
def test_find_any_text_is_a_row_or_a_message_error(text: str) -> None:
    try:
        row, node = find(text)
    except MessageError:
        return
    assert row.at(node) == text


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "sottovoce/v1/node/a/b",
        "sottovoce/v1/node/a/b/audio",
        "sottovoce/v1/node/a/b/emotion/x",
        "sottovoce/v1/node/a/b/emotion\n",
        "sottovoce/v2/node/a/b/emotion",
        "/sottovoce/v1/node/a/b/emotion",
        "sottovoce/v1/node//b/emotion",
        "sottovoce/v1/node/a/+/emotion",
        "sottovoce/v1/node/A/b/emotion",
        "sottovoce/v1/node/a\n/b/emotion",
        f"sottovoce/v1/node/{'a' * 33}/b/emotion",
        "sottovoce/v1/node/{site}/{node}/emotion",
        "sottovoce/v1/release/metadata/timestamp.json",
    ],
)
def test_find_impossible_topic_is_refused(topic: str) -> None:
    with pytest.raises(MessageError, match=re.escape(repr(topic))):
        find(topic)


@pytest.mark.parametrize(
    "name", ["timestamp.json", "1.root.json", "999999999.targets.json", "20.snapshot.json", "3.rollout.json"]
)
def test_metadata_topic_of_a_file_is_found_again(name: str) -> None:
    topic = METADATA.at(name)
    assert topic == f"sottovoce/v1/release/metadata/{name}"
    assert (METADATA.name_in(topic), CHUNK.name_in(topic)) == (name, None)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "",
            "root.json",
            "0.root.json",
            "01.root.json",
            "1.timestamp.json",
            "1.other.json",
            "1.root.json\n",
            "+",
            "#",
        ),
        *("../1.root.json", "1.root.json/x", "1000000000.root.json", "1.root.jsonx", "1.ROOT.json", "a" * 64),
    ],
)
def test_metadata_topic_of_an_impossible_file_is_refused(name: str) -> None:
    with pytest.raises(MessageError, match="no such name"):
        METADATA.at(name)
    assert METADATA.name_in(f"sottovoce/v1/release/metadata/{name}") is None


@pytest.mark.parametrize("name", ["a" * 63, "a" * 65, "A" * 64, "g" * 64, f"{'a' * 63}/", f"{'a' * 64}\n"])
def test_chunk_topic_of_what_is_no_digest_is_refused(name: str) -> None:
    with pytest.raises(MessageError, match="no such name"):
        CHUNK.at(name)
    assert CHUNK.name_in(f"sottovoce/v1/release/chunk/{name}") is None
    assert CHUNK.name_in(CHUNK.at("0af" * 21 + "0")) == "0af" * 21 + "0"


@pytest.mark.parametrize("name", ["a", "0", "a-", "a" * 32, "kitchen-2"])
def test_node_id_at_the_limits_is_accepted(name: str) -> None:
    assert str(NodeId(name, name)) == f"{name}/{name}"


@pytest.mark.parametrize(
    "name", ["", "-a", "a" * 33, "A", "a_b", "a/b", "a.b", "ä", "a b", "a\n", "+", "#", "$a", "%u"]
)
def test_node_id_beyond_the_limits_is_refused(name: str) -> None:
    for site, node, part in ((name, "ok", "site"), ("ok", name, "node")):
        with pytest.raises(SettingsError, match=f"^{part} {re.escape(repr(name))}: 1 to 32"):
            NodeId(site, node)


def test_table_names_and_templates_are_distinct_and_bounded() -> None:
    assert len({row.name for row in TABLE}) == len({row.template for row in TABLE}) == len(TABLE)
    assert all(0 < row.largest_bytes <= 64 * 1024 for row in TABLE)


def test_generated_files_are_current() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "broker.contract.generate", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout


def test_asyncapi_references_resolve() -> None:
    document = asyncapi()
    references = [value for key, value in _walk(document) if key == "$ref"]
    assert references
    for reference in references:
        at: Any = document
        for part in reference.removeprefix("#/").split("/"):
            at = at[part]
        assert isinstance(at, dict), reference


def test_asyncapi_has_every_row() -> None:
    document = json.loads((ROOT / "broker/asyncapi.json").read_text())
    assert {name: channel["address"] for name, channel in document["channels"].items()} == {
        row.name: row.template for row in TABLE
    }
    for row in TABLE:
        direction = "send" if isinstance(row, NodeTopic) else "receive"
        operation = document["operations"][f"{direction}_{row.name}"]
        mqtt = operation["bindings"]["mqtt"]
        assert (operation["action"], mqtt["qos"], mqtt["retain"]) == (direction, row.qos, row.retained)
        assert row.template.count("{") == len(document["channels"][row.name]["parameters"])
    for node_row in NODE_TOPICS:
        assert node_row.message.__name__ in document["components"]["messages"]


def test_access_rules_give_a_node_its_own_topics_collectors_all_and_releases_to_one_writer() -> None:
    lines = access_rules(("one", "two")).splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    for row in NODE_TOPICS:
        assert rules.count(f"pattern write {row.template.replace('{site}/{node}', '%u')}") == 1
        assert rules.count(f"topic read {row.every_node}") == 2 * row.is_collected + len(row.read_by)
        for reader in row.read_by:
            assert f"topic read {row.every_node}" in rules[rules.index(f"user {reader}") :]
    for released in RELEASE_TOPICS:
        assert rules.count(f"pattern read {released.every}") == rules.count(f"topic write {released.every}") == 1
        assert rules.index(f"topic write {released.every}") > rules.index("user release")
    for command in COMMAND_TOPICS:
        assert rules.count(f"pattern read sottovoce/v1/command/%u/{command.command}") == 1
        assert f"topic write {command.every_node}" in rules[rules.index(f"user {command.sent_by}") :]
        assert rules.count(f"topic write {command.every_node}") == 1 + len(command.also_sent_by)
    read_by = {row.name: row.read_by for row in NODE_TOPICS if row.read_by}
    home = "homeassistant"
    seen: dict[str, tuple[str, ...]] = dict.fromkeys(("status", "update"), ("watcher", home))
    seen |= dict.fromkeys(("emotion", "telemetry", "discovery"), (home,))
    assert read_by == seen | {"reply": ("release", "operator")}
    assert [row.name for row in NODE_TOPICS if not row.is_collected] == ["reply", "discovery"]
    births = [rules.count(f"pattern read {home}/status"), rules.count(f"topic write {home}/status")]
    assert births == [1, 1]
    users, nodes = 6, len(NODE_TOPICS) + len(RELEASE_TOPICS) + len(COMMAND_TOPICS)
    readers = sum(len(names) for names in read_by.values())
    writers = len(RELEASE_TOPICS) + sum(1 + len(command.also_sent_by) for command in COMMAND_TOPICS)
    assert len(rules) == nodes + users + 2 * (len(NODE_TOPICS) - 2) + writers + readers + sum(births)
    assert rules.index("user one") > max(k for k, rule in enumerate(rules) if rule.startswith("pattern"))
    assert not [rule for rule in rules if "readwrite" in rule or "#" in rule]


def test_markdown_table_has_every_row() -> None:
    assert len(markdown_table().splitlines()) == 2 + len(TABLE)


def _walk(node: object) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        for key, value in node.items():
            if isinstance(value, str):
                yield key, value
            yield from _walk(value)
    elif isinstance(node, list):
        for value in node:
            yield from _walk(value)


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (
            bundle,
            "GOLDEN_TOLERANCE LARGEST_BUNDLE_BYTES Bundle Golden Manifest Member Training read_bundle write_bundle",
        ),
        (commands, "COMMAND_EXPIRY_S Command CommandName MuteCommand Reply ThresholdCommand"),
        (
            condition,
            (
                "LATENCY_BOUNDS_US CaptureProblem CaptureReport CaptureState Context Drift Exemption MuteSource "
                "Quantiles Thresholds"
            ),
        ),
        (
            decision,
            (
                "CLASSES MIN_INTERVAL_US REPEAT_INTERVAL_US Announced Deciding Decision DecisionSpec "
                "Label Probabilities advance break_off fall_silent level_dbfs with_thresholds"
            ),
        ),
        (drift, "divergence entropy"),
        (
            errors,
            (
                "AudioError BundleError DataError LinkError MessageError Refusal ReleaseError SettingsError "
                "SottovoceError StoreError TrustError exit_with_one_line"
            ),
        ),
        (features, "PAPER_FEATURES FeatureSpec Normalisation analyse assemble extract frame_count normalise"),
        (generate, "access_rules asyncapi main markdown_table schema"),
        (device, "Availability Component Device DeviceDiscovery Origin"),
        (home_assistant, "FRESH_S birth_topic describe discovery_topic"),
        (mel, "dct hann mel_filters mel_power"),
        (
            messages,
            (
                "SCHEMA EmotionEvent EventLatency NodeMessage NodeStatus Stage StatusReason Telemetry Versions decode "
                "encode"
            ),
        ),
        (pitch, "BAND_HZ HIGHEST_HZ LOWEST_HZ PITCH_COLUMNS REFERENCE_HZ pitch pitch_bins smooth_pitch"),
        (
            release,
            (
                "CONTRACT Chunk Course Forced Release Rollout bundle_target channel_target course cut describe family "
                "incompatibility is_in read_release read_rollout start_delay_s"
            ),
        ),
        (stream, "FrameStream windows_of"),
        (
            topics,
            (
                "CHUNK COMMAND_TOPICS DISCOVERY EMOTION HOME_ASSISTANT_PREFIX HOME_ASSISTANT_STATUS "
                "HOME_ASSISTANT_USER LARGEST_RETAINED_BYTES METADATA MUTE NODE_TOPICS OPERATOR_USER "
                "RELEASE_TOPICS RELEASE_USER REPLY ROLLBACK STATUS TABLE TELEMETRY THRESHOLD UPDATE WATCHER_USER "
                "WILL_DELAY_S CommandTopic NodeId NodeTopic ReleaseTopic Topic every_command find find_command"
            ),
        ),
        (
            updates,
            "SCORE_BINS TrialFigures UpdateReport UpdateState",
        ),
        (windows, "Window WindowSpec Windower"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_public_names_are_these(module: Any, names: str) -> None:
    """What the programs stand on: removing or adding a name is a decision, and this is where it shows."""
    assert sorted(module.__all__) == sorted(names.split())
    assert all(hasattr(module, name) for name in module.__all__)
