"""A mistake in a settings file is one line: the file, the key, what was found, what is allowed."""

import queue
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from broker.contract.condition import Exemption
from broker.contract.errors import SettingsError
from broker.link import Link
from broker.settings import BrokerSettings, read_settings, secret
from edge_node.settings import NodeSettings

GOOD = 'site = "home"\nnode = "kitchen"\ndeployment = {context = "home", employees_present = false}\n'


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str | bytes], NodeSettings]:
    def from_text(text: str | bytes) -> NodeSettings:
        path = tmp_path / "node.toml"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_settings(path, NodeSettings)

    return from_text


def test_settings_least_file_has_safe_defaults(read: Callable[..., NodeSettings]) -> None:
    settings = read(GOOD)
    assert str(settings.identity) == "home/kitchen"
    assert settings.broker.tls
    assert settings.source.kind == "microphone"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('node = "n"\ndeployment = {context = "home", employees_present = false}\n', ["site"]),
        ('site = "s"\nnode = "n"\n', ["missing table [deployment]: needs context ('home', 'vehicle', "]),
        (GOOD + 'context = "home"\n', ["unknown key context; allowed: site, node, deployment, "]),
        (GOOD.replace('= "home",', '= "office",'), ["deployment.context = 'office': allowed: 'home', 'vehicle', "]),
        (GOOD.replace("kitchen", "Kitchen"), ["node 'Kitchen'", "a-z, 0-9"]),
        (GOOD.replace("kitchen", "a" * 33), ["node", "1 to 32"]),
        (GOOD.replace('"kitchen"', "7"), ["node = 7: allowed: text in quotes"]),
        (GOOD + "drain_s = -1\n", ["drain_s = -1: allowed: 0 to 60"]),
        (GOOD + "drain_s = nan\n", ["drain_s", " = nan: "]),
        (GOOD + "drain_s = inf\n", ["drain_s = inf: allowed: 0 to 60"]),
        (GOOD + "drain_s = 2024-01-01\n", ["drain_s = datetime.date(2024, 1, 1): allowed: a number, 0 to 60"]),
        (GOOD + "[broker]\nport = 0\n", ["broker.port = 0: allowed: 1 to 65535"]),
        (GOOD + "[broker]\nport = 65536\n", ["broker.port = 65536: allowed: 1 to 65535"]),
        (GOOD + f"[broker]\nport = {10**40}\n", ["broker.port"]),
        (GOOD + '[broker]\nport = "8883"\n', ["broker.port = '8883': allowed: a whole number, 1 to 65535"]),
        (GOOD + "[broker]\nprot = 8883\n", ["unknown key broker.prot; allowed: host, port, "]),
        (GOOD + '[broker]\nhost = ""\n', ["broker.host"]),
        (GOOD + '[broker]\ntls = "no"\n', ["broker.tls = 'no': allowed: true or false"]),
        (GOOD + '[broker]\ntls = false\nhost = "192.168.1.5"\n', ["broker.tls", "'192.168.1.5'", "this machine only"]),
        (GOOD + '[broker]\ncert_file = "a.crt"\n', ["broker.cert_file and broker.key_file go together"]),
        (GOOD + '[broker]\nkey_file = "a.key"\n', ["broker.cert_file and broker.key_file go together"]),
        (GOOD + '[broker]\npassword = "secret"\n', ["unknown key broker.password; allowed: "]),
        (GOOD + "[broker]\nkeepalive_s = 1\n", ["broker.keepalive_s = 1: allowed: 5 to 3600"]),
        (GOOD + "broker = 3\n", ["broker = 3: allowed: a table"]),
        (GOOD + "[source]\nkind = 'line-in'\n", ["source.kind = 'line-in': allowed: 'microphone', 'replay'"]),
        (GOOD + "[source]\nkind = 'replay'\n", ["source.paths"]),
        (GOOD + "[source]\nkind = 'replay'\npaths = ['a.wav', 3]\n", ["source.paths[1] = 3: allowed: text in quotes"]),
        (GOOD + "[source]\nchannel = 0\n", ["source.channel = 0: allowed: 1 to 64"]),
        (GOOD + "[source]\ndevice = 1.5\n", ["source.device", " = 1.5: "]),
        (GOOD + "[outbox]\nmost_rows = 1\n", ["outbox.most_rows = 1: allowed: 10 to 10000000"]),
        (GOOD + "[mute]\nquiet_hours = '22:00-06:30'\n", ["mute.quiet_hours = '22:00-06:30': allowed: a list"]),
        (GOOD + "[outbox]\nreplay_s = -0.5\n", ["outbox.replay_s", " = -0.5: "]),
        (GOOD + "[telemetry]\ninterval_s = 0\n", ["telemetry.interval_s = 0: allowed: 1 to 600"]),
        (GOOD + '"two\\nlines" = 1\n', ["unknown key two lines"]),
        (GOOD + f"drain_s = {'9' * 5000}\n", ["not valid TOML"]),
        (GOOD + f"drain_s = 0x{'9' * 5000}\n", ["drain_s = ...: "]),
        (GOOD + GOOD, ["not valid TOML"]),
        ("site = \n", ["not valid TOML", "line 1"]),
        ("{}", ["not valid TOML"]),
        ("", ["site"]),
        (b"\x7fELF\x02\x01\xff\xfe" * 50, ["not valid TOML"]),
        ("x = " + "[" * 20_000, ["not valid TOML"]),
    ],
)
def test_settings_mistake_is_named(
    read: Callable[..., NodeSettings], tmp_path: Path, text: str | bytes, words: list[str]
) -> None:
    with pytest.raises(SettingsError) as caught:
        read(text)
    message = str(caught.value)
    assert message.startswith(f"settings file {tmp_path / 'node.toml'}: ")
    assert "\n" not in message
    for word in words:
        assert word in message


def test_settings_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "none.toml", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(SettingsError, match=why) as caught:
            read_settings(path, NodeSettings)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "::1"])
def test_settings_without_tls_on_this_machine_are_accepted(host: str) -> None:
    assert not BrokerSettings(host=host, tls=False).tls


def test_secret_comes_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert secret("SOTTOVOCE_TEST_WORD") is None
    monkeypatch.setenv("SOTTOVOCE_TEST_WORD", "from the environment")
    assert secret("SOTTOVOCE_TEST_WORD") == "from the environment"
    (tmp_path / "word").write_text("from a file\n")
    monkeypatch.setenv("SOTTOVOCE_TEST_WORD_FILE", str(tmp_path / "word"))
    assert secret("SOTTOVOCE_TEST_WORD") == "from a file"


def _link(settings: BrokerSettings) -> Link:
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    return Link(settings, "home.kitchen", events=events)


def test_secret_in_a_missing_file_is_refused_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOTTOVOCE_BROKER_PASSWORD_FILE", str(tmp_path / "none"))
    with pytest.raises(SettingsError, match=r"SOTTOVOCE_BROKER_PASSWORD_FILE names .*none, which cannot be read"):
        _link(BrokerSettings(tls=False, username="home/kitchen"))


def test_link_certificate_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("no certificate")
    with pytest.raises(SettingsError, match=r"broker: ca_file .*ca\.crt: (?!.*None)"):
        _link(BrokerSettings(ca_file=str(tmp_path / "ca.crt")))
    for key in ("ca_file", "cert_file", "key_file"):
        files = dict.fromkeys(("ca_file", "cert_file", "key_file"), str(tmp_path / "ca.crt"))
        files[key] = str(tmp_path / "missing.crt")
        with pytest.raises(SettingsError, match=rf"^broker\.{key} \S*missing\.crt: No such file or directory; name a"):
            _link(BrokerSettings(ca_file=files["ca_file"], cert_file=files["cert_file"], key_file=files["key_file"]))


def deployment(words: str) -> str:
    return f'site = "home"\nnode = "kitchen"\n[deployment]\n{words}\n'


@pytest.mark.parametrize("context", ["home", "vehicle", "care", "public"])
def test_deployment_that_may_be_a_workplace_must_say_whether_it_is(
    read: Callable[..., NodeSettings], context: str
) -> None:
    with pytest.raises(SettingsError, match=r"deployment\.employees_present is missing: true or false"):
        read(deployment(f"context = '{context}'"))
    assert read(deployment(f"context = '{context}'\nemployees_present = false")).deployment.exempted is None


@pytest.mark.parametrize(
    "words",
    [
        "context = 'workplace'",
        "context = 'education'",
        "context = 'education'\nemployees_present = false",
        *(
            f"context = '{each}'\nemployees_present = true"
            for each in ("home", "vehicle", "care", "public", "research")
        ),
    ],
)
def test_deployment_at_work_or_school_is_refused_without_an_exemption(
    read: Callable[..., NodeSettings], words: str
) -> None:
    with pytest.raises(SettingsError, match=r"Article 5\(1\)\(f\), forbids emotion recognition at work") as caught:
        read(deployment(words))
    assert "exemption_reference" in str(caught.value)
    exempted = read(deployment(f"{words}\nexemption = 'medical'\nexemption_reference = 'ward 3, file 12'"))
    assert exempted.deployment.exempted == Exemption(reason="medical", reference="ward 3, file 12")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("exemption = 'medical'", "go together"),
        ("exemption_reference = 'file 12'", "go together"),
        ("exemption = 'medical'\nexemption_reference = ''", "exemption_reference"),
        ("exemption = 'medical'\nexemption_reference = '   '", "exemption_reference"),
        ("operator = '  '", "operator"),
        ("exemption = 'curiosity'\nexemption_reference = 'file 12'", "allowed: 'medical', 'safety'"),
    ],
)
def test_deployment_exemption_needs_a_lawful_reason_and_a_reference(
    read: Callable[..., NodeSettings], words: str, told: str
) -> None:
    with pytest.raises(SettingsError, match=told):
        read(deployment(f"context = 'workplace'\n{words}"))


def _keys(kind: Any, prefix: str = "") -> Iterator[str]:
    for field in msgspec.structs.fields(kind):
        kinds = [each for each in (field.type, *get_args(field.type)) if isinstance(each, type)]
        sections = [each for each in kinds if issubclass(each, msgspec.Struct)]
        for section in sections:
            yield from _keys(section, f"{prefix}{field.name}.")
        if not sections:
            yield f"{prefix}{field.name}"


def test_settings_every_key_is_in_the_guide_and_no_other() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "node.md").read_text(encoding="utf-8")
    tables = guide[guide.index("## Settings") : guide.index("## Choosing a microphone")]
    told = {
        key for row in re.findall(r"^\| (`[^|]+) \|", tables, re.MULTILINE) for key in re.findall(r"`([^`]+)`", row)
    }
    assert told == set(_keys(NodeSettings))
