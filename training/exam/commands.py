"""The commands that examine: `evaluate` a bundle, `compare` two, hold one against the release `gates`."""

import argparse
from pathlib import Path
from typing import Any

import msgspec

from broker.contract.errors import SettingsError
from training.files import writing

__all__ = ["add_exam_commands"]


def add_exam_commands(commands: Any, cache: Path) -> None:  # noqa: ANN401 -- argparse keeps its type private
    """Add the three commands to a program's.

    Args:
        commands: what `add_subparsers` returned.
        cache: where prepared clips lie if nobody says otherwise.
    """
    evaluate = commands.add_parser("evaluate", help="what a node with a bundle says about recordings")
    evaluate.add_argument("--bundle", type=Path, required=True, help="bundle file")
    evaluate.add_argument("--data", type=Path, default=cache, help="corpora or a prepared cache (default: %(default)s)")
    evaluate.add_argument(
        "--speakers",
        choices=("held-out", "all"),
        default="held-out",
        help="held-out: those who took no part in training (default: %(default)s)",
    )
    evaluate.add_argument("--json", action="store_true", help="one JSON object on stdout, nothing else")
    evaluate.add_argument(
        "--noise",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="judge each clip in noise as well, which takes ten times as long (default: --noise)",
    )
    evaluate.add_argument("--plot", type=Path, help="write confusion matrices as PNG")
    evaluate.add_argument("--predictions", type=Path, help="write what is said of each clip, one JSON object a line")
    evaluate.set_defaults(command=_evaluate)

    compare = commands.add_parser("compare", help="which of two models is better, if the data can tell")
    for name in ("a", "b"):
        compare.add_argument(name, type=Path, metavar=name.upper(), help="bundle, predictions file or run folder")
    compare.add_argument("--data", type=Path, help="corpora or a prepared cache, for bundles to judge")
    compare.add_argument(
        "--speakers",
        choices=("held-out", "all"),
        default="held-out",
        help="that bundles judge (default: %(default)s)",
    )
    compare.add_argument("--json", action="store_true", help="one JSON object on stdout, nothing else")
    compare.set_defaults(command=_compare)

    gates = commands.add_parser("gates", help="whether a bundle may be released: exit code 0 if no gate fails, else 1")
    gates.add_argument("--bundle", type=Path, required=True, help="bundle file")
    gates.add_argument("--data", type=Path, default=cache, help="corpora or a prepared cache (default: %(default)s)")
    gates.add_argument("--limits", type=Path, help="TOML file with other limits than the default ones")
    gates.add_argument("--baseline", type=Path, metavar="MODEL.tflite", help="model that latency is compared with")
    gates.add_argument("--require-all", action="store_true", help="fail as well where a gate was not measured")
    gates.add_argument(
        "--noise", action=argparse.BooleanOptionalAction, default=True, help="judge in noise as well (default: --noise)"
    )
    gates.add_argument("--json", action="store_true", help="one JSON object on stdout, nothing else")
    gates.set_defaults(command=_gates)


def _evaluate(args: argparse.Namespace) -> int:
    from training.data.prepare import open_collection  # noqa: PLC0415 -- as above
    from training.exam.evaluate import grade  # noqa: PLC0415 -- keeps --help quick
    from training.exam.predictions import write_predictions  # noqa: PLC0415 -- as above
    from training.exam.sitting import open_bundle, predictions_of, sit  # noqa: PLC0415 -- as above

    for option, path in (("--plot", args.plot), ("--predictions", args.predictions)):
        if path and not path.parent.is_dir():  # told before minutes of work, not after
            msg = f"{option} {path}: cannot be written ({path.parent} is no folder); choose another file"
            raise SettingsError(msg)
    bundle = open_bundle(args.bundle)
    collection, corrupt = open_collection(args.data)
    exam = sit(bundle, collection, seen=args.speakers == "all", noise=args.noise)
    evaluation = grade(exam, len(corrupt))
    if args.predictions:
        write_predictions(predictions_of(exam), args.predictions)
    if args.plot:
        from training.report.plots import plot_evaluation  # noqa: PLC0415 -- matplotlib takes a second to import

        with writing(f"--plot {args.plot}", "choose another file"):
            plot_evaluation(evaluation, args.plot)
    if args.json:
        print(msgspec.json.encode(evaluation).decode())  # noqa: T201 -- the command's answer
    else:
        from training.exam.tables import print_evaluation  # noqa: PLC0415 -- keeps --help quick

        print_evaluation(evaluation)
    return 0


def _compare(args: argparse.Namespace) -> int:
    from training.data.prepare import open_collection  # noqa: PLC0415 -- as above
    from training.exam.compare import compare, needs_data, open_side  # noqa: PLC0415 -- keeps --help quick

    hears = args.data is not None and any(needs_data(path) for path in (args.a, args.b))
    collection = open_collection(args.data)[0] if hears else None
    comparison = compare(*(open_side(path, collection, seen=args.speakers == "all") for path in (args.a, args.b)))
    if args.json:
        print(msgspec.json.encode(comparison).decode())  # noqa: T201 -- the command's answer
    else:
        from training.exam.verdict_tables import print_comparison  # noqa: PLC0415 -- keeps --help quick

        print_comparison(comparison)
    return 0


def _gates(args: argparse.Namespace) -> int:
    from training.data.prepare import open_collection  # noqa: PLC0415 -- as above
    from training.exam.evaluate import evaluate  # noqa: PLC0415 -- keeps --help quick
    from training.exam.gates import (  # noqa: PLC0415 -- as above
        Limits,
        Outcome,
        check_gates,
        latency_ratio,
        read_baseline,
        read_limits,
    )
    from training.exam.sitting import open_bundle  # noqa: PLC0415 -- as above

    limits = read_limits(args.limits) if args.limits else Limits()
    bundle = open_bundle(args.bundle)
    baseline = read_baseline(args.baseline) if args.baseline else None
    latency = latency_ratio(bundle.model, baseline, str(args.baseline)) if baseline else None
    collection, corrupt = open_collection(args.data)
    evaluation = evaluate(bundle, collection, seen=False, corrupt=len(corrupt), noise=args.noise)
    gates = check_gates(evaluation, bundle, limits, latency)
    refused = {Outcome.FAILED, Outcome.SKIPPED} if args.require_all else {Outcome.FAILED}
    passed = not any(gate.outcome in refused for gate in gates)
    if args.json:
        answer = {"bundle": evaluation.bundle, "passed": passed, "gates": gates}
        print(msgspec.json.encode(answer).decode())  # noqa: T201 -- the command's answer
    else:
        from training.exam.verdict_tables import print_gates  # noqa: PLC0415 -- keeps --help quick

        print_gates(evaluation.bundle, gates)
    return 0 if passed else 1
