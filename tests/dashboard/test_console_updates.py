"""What the console says about models and their updates, without a browser."""

import pytest

from broker.contract.messages import StatusReason
from broker.contract.topics import NodeId
from broker.contract.updates import UpdateState
from dashboard.console.condition import Health, Status
from dashboard.console.fleet import MODELS_SHOWN, ROWS_SHOWN, fleet
from dashboard.console.readings import Node
from dashboard.console.updates import Standing, Trial, Update
from dashboard.console.words import card, update_words

_NOW = 1_800_000_000_000_000
_BOOT = "0123456789abcdef"


def _update(
    state: UpdateState, reason: str = "", *, trial: Trial | None = None, release: str | None = "made/4"
) -> Update:
    return Update(
        received_us=_NOW,
        boot_id=_BOOT,
        time_us=_NOW,
        release=release,
        state=state,
        reason=reason,
        progress=0.42,
        trial=trial,
    )


def _trial(classified: int, agreed: int) -> Trial:
    return Trial(windows=210, classified=classified, agreed=agreed, p50_us=4_000, p95_us=6_000)


def _node(name: str, model: str, update: Update | None = None, *, online: bool = True) -> Node:
    status = Status(
        boot_id=_BOOT,
        received_us=_NOW,
        online=online,
        reason=StatusReason.BIRTH,
        model=model,
        context="home",
        source="replay: synthetic",
        muted=False,
        clock_synced=True,
    )
    health = Health(
        boot_id="0123456789abcdef", received_us=_NOW, clock_synced=True, outbox_depth=0, p50_us=None, p95_us=None
    )
    return Node(id=NodeId("home", name), status=status, health=health, update=update)


def _plain(words: str) -> str:
    return words.replace("\N{NARROW NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(
    ("update", "expected"),
    [
        (_update(UpdateState.DOWNLOADING), "downloading made/4: 42 %"),
        (_update(UpdateState.DOWNLOADING, "a chunk is missing"), "downloading made/4: 42 %; a chunk is missing"),
        (_update(UpdateState.DOWNLOADING, release=None), "downloading a release: 42 %"),
        (_update(UpdateState.VERIFYING), "verifying made/4: 42 %"),
        (_update(UpdateState.TRIAL), "trial of made/4: 42 %"),
        (_update(UpdateState.TRIAL, trial=_trial(80, 75)), "trial of made/4: 42 %; 94 % of 80 windows agree"),
        (_update(UpdateState.TRIAL, trial=_trial(0, 0)), "trial of made/4: 42 %; no speech yet"),
        (_update(UpdateState.COMMITTING, trial=_trial(80, 75)), "committing made/4: 42 %"),
        (_update(UpdateState.ROLLING_BACK, "recalled"), "rolling back from made/4: recalled"),
        (_update(UpdateState.REJECTED, "too slow", trial=_trial(80, 75)), "rejected made/4: too slow"),
        (_update(UpdateState.REJECTED), "rejected made/4"),
        (_update(UpdateState.IDLE, "its turn is at 14:05"), "idle: its turn is at 14:05"),
        (_update(UpdateState.IDLE), ""),
    ],
)
def test_an_update_is_told_by_its_state_how_far_it_is_and_why(update: Update, expected: str) -> None:
    assert _plain(update_words(update)) == expected


def test_a_card_shows_the_model_that_runs_and_the_update_beside_it() -> None:
    words = card(_node("a", "made/3", _update(UpdateState.REJECTED, "too slow")), _NOW)
    assert (words.model, words.update, words.standing) == ("made/3", "rejected made/4: too slow", Standing.REJECTED)


@pytest.mark.parametrize("update", [None, _update(UpdateState.IDLE)])
def test_a_card_of_a_node_that_is_up_to_date_says_nothing_of_updates(update: Update | None) -> None:
    words = card(_node("a", "made/3", update), _NOW)
    assert (words.model, words.update, words.standing) == ("made/3", "", None)


def test_the_fleet_is_models_by_nodes_then_who_updates_and_who_refused() -> None:
    said = fleet(
        [
            _node("a", "made/4", _update(UpdateState.IDLE)),
            _node("b", "made/3", _update(UpdateState.ROLLING_BACK, "recalled")),
            _node("c", "made/3", _update(UpdateState.IDLE, "no time server"), online=False),
            _node("d", "made/3", _update(UpdateState.REJECTED, "too slow")),
            _node("e", "made/3", _update(UpdateState.VERIFYING), online=False),
            Node(id=NodeId("home", "f")),
        ],
        _NOW,
    )
    assert said.summary == "1 updating, 2 rejected"
    assert [(each.model, each.words, round(each.share, 2)) for each in said.models] == [
        ("made/3", "4 nodes, 2 online", 0.67),
        ("made/4", "1 node", 0.17),
    ]
    assert [(row.node.node, _plain(row.words)) for row in said.rows] == [
        ("e", "verifying made/4: 42 % (not online)"),
        ("b", "rolling back from made/4: recalled"),
        ("d", "rejected made/4: too slow"),
        ("c", "idle: no time server (not online)"),
    ]
    assert {row.model for row in said.rows} == {"made/3"}
    assert said.left_out == ""


def test_a_large_fleet_is_cut_and_what_is_left_out_is_counted() -> None:
    said = fleet([_node(f"n{k}", f"made/{k}", _update(UpdateState.TRIAL)) for k in range(ROWS_SHOWN + 1)], _NOW)
    assert (len(said.models), len(said.rows)) == (MODELS_SHOWN, ROWS_SHOWN)
    assert said.summary == f"{ROWS_SHOWN + 1} updating"
    assert said.left_out == f"And {ROWS_SHOWN + 1 - MODELS_SHOWN} more models and 1 more node."


def test_a_fleet_without_updates_says_so() -> None:
    assert fleet([_node("a", "made/4")], _NOW).summary == "no update under way"
    assert fleet([], _NOW).models == ()
