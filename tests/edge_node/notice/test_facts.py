"""What an operator gives is checked before anything is drawn."""

from collections.abc import Callable
from typing import Any

import pytest

from broker.contract.condition import Context
from broker.contract.errors import SettingsError
from edge_node.notice.facts import LONGEST_URL, Facts

MakeFacts = Callable[..., Facts]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "care.example",
        "ftp://care.example/",
        "javascript:alert(1)",
        "https://",
        "https:///sound",
        "https://care.example:port/",
        "https://care.example:99999/",
        "https://[::1/",
        "https://care.example/a b",
        "https://care.example/\n",
        "https://care.example/\x00",
        "https://cáre.example/",
        "https://user:word@care.example/",
        "https://user@care.example/",
        "https://care.example/" + "a" * LONGEST_URL,
    ],
)
def test_facts_with_a_bad_address_are_refused(facts: MakeFacts, url: str) -> None:
    with pytest.raises(
        SettingsError, match=r"information URL .*: https://\.\.\. or http://\.\.\., at most 200"
    ) as caught:
        facts(url=url)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://10.0.0.7:8080/", "https://care.example/" + "a" * (LONGEST_URL - 21)])
def test_facts_with_a_good_address_are_taken(facts: MakeFacts, url: str) -> None:
    assert facts(url=url).url == url


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"languages": ("en", "es")}, "language 'es': there is en, de, fr, vi"),
        ({"languages": ("en", "en")}, "each once"),
        ({"languages": ()}, "name one or more"),
        ({"operator": ""}, "operator: 1 to 100 characters, not 0"),
        ({"operator": "   "}, "operator: 1 to 100 characters"),
        ({"operator": "a" * 101}, "operator: 1 to 100 characters, not 101"),
        ({"contact": "a\nb"}, r"contact 'a\\nb': the character U\+000A cannot be printed"),
        ({"place": "a\u202eb"}, r"place .*U\+202E"),
        ({"purposes": ("a" * 301,)}, "purpose: 1 to 300 characters, not 301"),
        ({"purposes": ("a", "b")}, "purpose: 2 were given; one for all languages, or one for each"),
    ],
)
def test_facts_that_cannot_be_printed_are_named(facts: MakeFacts, given: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        facts(**given)


def test_facts_without_a_place_take_the_contexts_name_in_each_language(facts: MakeFacts) -> None:
    both = facts("de", "vi", context=Context.HOME)
    assert both.rows()[-1] == ("Ort · Địa\u00a0điểm", "Wohnung · Nhà\u00a0ở")
    assert facts("de", "vi", place="Kitchen").rows()[-1][1] == "Kitchen"
    assert len(facts("de", context=None).rows()) == 2


def test_facts_give_each_language_its_purpose(facts: MakeFacts) -> None:
    both = facts("de", "en", purposes=("Pflege planen", "Plan care"))
    assert [why for _, _, why in both.words()] == ["Pflege planen", "Plan care"]
    assert [why for _, _, why in facts("de", "en", purposes=("A",)).words()] == ["A", "A"]
    assert [why for _, _, why in facts("de", "en").words()] == [None, None]
