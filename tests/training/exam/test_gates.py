from pathlib import Path

import msgspec
import pytest

from broker.contract.bundle import Bundle
from broker.contract.decision import Label
from broker.contract.errors import BundleError, DataError, SettingsError
from training.__main__ import main
from training.data.prepare import open_collection
from training.exam.evaluate import Evaluation, evaluate
from training.exam.gates import Gate, Limits, Outcome, check_gates, latency_ratio, read_limits

NONE = Limits(
    macro_uar=0, class_recall=0, model_bytes=10**9, agreement=0, ece=1, latency_ratio=1_000, noise_macro_uar=0
)
"""Limits that anything keeps to."""


@pytest.fixture(scope="module")
def bundle(examined_bundle: Bundle) -> Bundle:
    return examined_bundle


@pytest.fixture(scope="module")
def heard(bundle: Bundle, tiny_corpora: Path) -> Evaluation:
    """The factory model on a held-out speaker, in quiet."""
    return evaluate(bundle, open_collection(tiny_corpora / "AudioData" / "DC")[0], seen=False)


def _stands(gates: tuple[Gate, ...]) -> dict[str, Outcome]:
    return {gate.name: gate.outcome for gate in gates}


def test_gates_are_the_limits_in_their_order(bundle: Bundle, heard: Evaluation) -> None:
    assert tuple(_stands(check_gates(heard, bundle, Limits(), None))) == Limits.__struct_fields__


def test_each_gate_fails_by_its_own_limit_alone(bundle: Bundle, heard: Evaluation) -> None:
    measured = _stands(check_gates(heard, bundle, NONE, 0.5))
    assert measured.pop("noise_macro_uar") == Outcome.SKIPPED  # heard in quiet
    assert set(measured.values()) == {Outcome.PASSED}
    strict = {"macro_uar": 1.0, "class_recall": 1.0, "model_bytes": 1, "ece": 0.0, "latency_ratio": 0.49}
    for name, limit in strict.items():
        stands = _stands(check_gates(heard, bundle, msgspec.structs.replace(NONE, **{name: limit}), 0.5))
        assert [each for each, outcome in stands.items() if outcome == Outcome.FAILED] == [name]


def test_gate_at_its_limit_passes(bundle: Bundle, heard: Evaluation) -> None:
    exact = msgspec.structs.replace(
        NONE,
        macro_uar=heard.groups[0].models["quantized"].macro_uar,
        model_bytes=len(bundle.model),
        latency_ratio=0.25,
    )
    assert Outcome.FAILED not in _stands(check_gates(heard, bundle, exact, 0.25)).values()


def test_gate_that_was_not_measured_never_passes(bundle: Bundle, heard: Evaluation) -> None:
    group = msgspec.structs.replace(heard.groups[0], same_windows=None)
    stands = _stands(check_gates(msgspec.structs.replace(heard, groups=(group,)), bundle, NONE, None))
    skipped = {name for name, outcome in stands.items() if outcome == Outcome.SKIPPED}
    assert skipped == {"agreement", "latency_ratio", "noise_macro_uar"}


def test_recall_gate_names_the_weakest_class_and_skips_an_absent_one(bundle: Bundle, heard: Evaluation) -> None:
    group = heard.groups[0]
    figures = group.models["quantized"]

    def gate(*recall: float | None) -> Gate:
        scores = msgspec.structs.replace(figures.pooled, recall=recall)
        changed = msgspec.structs.replace(group, models={"quantized": msgspec.structs.replace(figures, pooled=scores)})
        return check_gates(msgspec.structs.replace(heard, groups=(changed,)), bundle, Limits(), None)[1]

    assert (gate(0.9, 0.34, 0.8).note, gate(0.9, 0.34, 0.8).outcome) == (Label.NEUTRAL, Outcome.FAILED)
    assert gate(0.9, 0.36, 0.8).outcome == Outcome.PASSED
    assert gate(0.9, None, 0.8).outcome == Outcome.SKIPPED
    assert "no clip of neutral" in gate(0.9, None, 0.8).note


def test_gates_need_a_held_out_speaker(bundle: Bundle, heard: Evaluation) -> None:
    group = msgspec.structs.replace(heard.groups[0], standing="cross-corpus")
    with pytest.raises(DataError, match="no clip of a held-out speaker"):
        check_gates(msgspec.structs.replace(heard, groups=(group,)), bundle, Limits(), None)


def test_latency_of_a_model_over_its_own_is_about_one(bundle: Bundle) -> None:
    assert 0.5 < latency_ratio(bundle.model, bundle.model, "itself") < 2
    with pytest.raises(BundleError, match="other: LiteRT cannot run it"):
        latency_ratio(bundle.model, b"no model", "other")


def test_limits_are_read_and_what_is_unknown_is_named(tmp_path: Path) -> None:
    path = tmp_path / "limits.toml"
    path.write_text("macro_uar = 0.7\n")
    assert read_limits(path) == Limits(macro_uar=0.7)
    for wrong, said in (("macro_uarr = 0.7", "macro_uarr"), ("ece = 1.5", "ece")):
        path.write_text(wrong)
        with pytest.raises(SettingsError, match=said):
            read_limits(path)


def test_gates_command_tells_by_its_exit_code(
    examined_path: Path, bundle: Bundle, tiny_corpora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limits, model = tmp_path / "limits.toml", tmp_path / "model.tflite"
    limits.write_text("\n".join(f"{name} = {value}" for name, value in msgspec.to_builtins(NONE).items()))
    model.write_bytes(bundle.model)
    asked = [
        "gates",
        "--bundle",
        str(examined_path),
        "--data",
        str(tiny_corpora / "AudioData" / "DC"),
        "--limits",
        str(limits),
    ]
    assert main([*asked, "--baseline", str(model), "--require-all"]) == 0
    assert "7 of 7 gates passed, 0 failed" in capsys.readouterr().out
    assert main([*asked, "--no-noise"]) == 0
    out = capsys.readouterr().out
    assert "5 of 7 gates passed, 0 failed, 2 not measured" in out
    assert "add --baseline MODEL.tflite" in out
    assert main([*asked, "--no-noise", "--require-all"]) == 1
    capsys.readouterr()
    limits.write_text("model_bytes = 1")
    assert main([*asked, "--no-noise", "--json"]) == 1
    answer = msgspec.json.decode(capsys.readouterr().out)
    gates = msgspec.convert(answer["gates"], tuple[Gate, ...])
    assert (answer["bundle"], answer["passed"]) == ("factory/4", False)
    assert _stands(gates)["model_bytes"] == Outcome.FAILED
    assert main([*asked, "--baseline", str(tmp_path / "nowhere")]) == SettingsError.exit_code
    assert "--baseline" in capsys.readouterr().err
