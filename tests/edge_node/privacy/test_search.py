"""A leak is found however it is written; what is none is not."""

import json
import zlib

import numpy as np
import pytest

from edge_node.privacy.known import Secrets
from edge_node.privacy.planted import Leak, leaks
from edge_node.privacy.sought import ENTROPY_LIMIT, entropy_of, sought_in

HARMLESS = (
    *(
        json.dumps({"seq": number, "confidence": round(0.3 + 0.007 * (number * 37 % 97), 4)}).encode()
        for number in range(99)
    ),
    np.random.default_rng(5).normal(size=600).astype("<f4").tobytes(),
)


def test_every_planted_leak_is_found(secrets: Secrets) -> None:
    found = {each.what: each for each in sought_in({}, secrets, None, b"INFO edge_node.node: listens\n" * 9)}

    assert len(found) == 7
    for each in found.values():
        assert each.planted is not None
        assert each.planted >= each.limit, each


def test_what_is_harmless_is_not_found(secrets: Secrets) -> None:
    for each in sought_in({"text": b"".join(HARMLESS[:-1]), "numbers": HARMLESS[-1][:480]}, secrets, None, None):
        assert each.found < each.limit, each


def test_what_is_found_is_told_with_its_place(secrets: Secrets) -> None:
    leak = next(each for each in leaks(secrets) if each.what == "audio, 16-bit")

    found = {each.what: each for each in sought_in({"log": b"", "outbox": leak.data}, secrets, None, None)}

    assert found["audio"].found >= found["audio"].limit
    assert found["audio"].where.startswith("outbox, ")


def test_another_signal_is_not_taken_for_the_known_one(secrets: Secrets) -> None:
    stranger = np.random.default_rng(3).normal(size=8000)
    data = np.round(stranger / np.abs(stranger).max() * 32_000).astype("<i2").tobytes()

    found = {each.what: each for each in sought_in({"": data}, secrets, None, None)}

    assert found["audio"].found < found["audio"].limit


@pytest.mark.parametrize("make", [lambda data: data, zlib.compress])
def test_what_is_unpredictable_stands_out(make: "type[bytes]") -> None:
    noise = make(np.random.default_rng(2).bytes(2000))

    assert entropy_of(b"{}" * 900 + noise + b"{}" * 900) > ENTROPY_LIMIT
    assert entropy_of(json.dumps([{"p50": each, "p99": each**2} for each in range(300)]).encode()) < ENTROPY_LIMIT


def test_an_identifier_that_reads_like_an_endless_number_is_none_of_the_models(secrets: Secrets) -> None:
    assert secrets.exact.in_text([b"8e42161234"] * 16) == 0
    assert secrets.exact.in_text([b"%.9g" % each for each in secrets.inputs[0, 5, :16]]) >= 8


def test_each_leak_is_made_of_the_signal(secrets: Secrets) -> None:
    made = list(leaks(secrets))

    assert all(isinstance(each, Leak) and len(each.data) > 100 for each in made)
