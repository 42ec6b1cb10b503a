"""`sottovoce-train`: corpora to bundle. Each command is one function; TensorFlow is imported by `train` alone."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from broker.contract.bundle import LARGEST_BUNDLE_BYTES, Bundle, read_bundle
from broker.contract.errors import BundleError, SettingsError, exit_with_one_line

__all__ = ["main"]

_LICENCE = Path(__file__).resolve().parent.parent / "edge_node" / "models" / "LICENSE"


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code of the command that the arguments name; None: those of the process."""
    return exit_with_one_line("sottovoce-train", lambda: _run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    args = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.DEBUG if args.verbose else logging.WARNING, format="%(levelname)s %(message)s")
    for noisy in ("matplotlib", "absl", "tensorflow", "h5py", "numba"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    code: int = args.command(args)
    return code


def _prepare(args: argparse.Namespace) -> int:
    from training.prepare import prepare  # noqa: PLC0415 -- keeps --help quick
    from training.report import print_prepared  # noqa: PLC0415 -- as above

    print_prepared(prepare(args.data, args.out), str(args.out))
    return 0


def _train(args: argparse.Namespace) -> int:
    from training.config import by_clip, load_experiment  # noqa: PLC0415 -- keeps --help quick

    experiment = load_experiment(args.config)  # before TensorFlow, which takes seconds to import
    if args.by_clip:
        experiment = by_clip(experiment)
    if args.threads < 1:
        msg = f"--threads {args.threads}: allowed is 1 or more"
        raise SettingsError(msg)
    try:
        from training.network import use_threads  # noqa: PLC0415 -- as said
        from training.train import train  # noqa: PLC0415 -- as said
    except ModuleNotFoundError as error:
        msg = f"the package {error.name} is missing: pip install 'sottovoce[training]'"
        raise SettingsError(msg) from error
    from training.report import print_run  # noqa: PLC0415 -- as said

    use_threads(args.threads)
    out = args.out or Path("runs") / experiment.name
    print_run(train(experiment, args.data, out, args.fold))
    print(f"results: {out}")  # noqa: T201 -- the command's answer
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from training.evaluate import evaluate  # noqa: PLC0415 -- keeps --help quick
    from training.prepare import open_collection  # noqa: PLC0415 -- as above

    bundle = _read(args.bundle)
    collection, corrupt = open_collection(args.data)
    evaluation = evaluate(bundle, collection, seen=args.speakers == "all", corrupt=len(corrupt))
    if args.plot:
        from training.plots import plot_evaluation  # noqa: PLC0415 -- matplotlib takes a second to import

        try:
            plot_evaluation(evaluation, args.plot)
        except OSError as error:
            msg = f"--plot {args.plot}: cannot be written ({error.strerror}); choose another file"
            raise SettingsError(msg) from error
    if args.json:
        print(msgspec.json.encode(evaluation).decode())  # noqa: T201 -- the command's answer
    else:
        from training.report import print_evaluation  # noqa: PLC0415 -- keeps --help quick

        print_evaluation(evaluation)
    return 0


def _bundle(args: argparse.Namespace) -> int:
    from training.pack import Order, pack  # noqa: PLC0415 -- keeps --help quick

    order = Order(
        run=args.run,
        name=args.name,
        version=args.version,
        fold=args.fold,
        licence=args.licence,
        compare=tuple(args.compare),
        data=args.data,
    )
    bundle = pack(order, args.out)
    members = ", ".join(f"{name} {member.bytes:,}" for name, member in bundle.manifest.members.items())
    print(f"{args.out}: {bundle.manifest.identity}, {args.out.stat().st_size:,} bytes ({members})")  # noqa: T201 -- answer
    print(f"proved on LiteRT with {len(bundle.golden.features)} golden vectors")  # noqa: T201 -- the command's answer
    return 0


def _read(path: Path) -> Bundle:
    try:
        with path.open("rb") as file:
            return read_bundle(file.read(LARGEST_BUNDLE_BYTES + 1), str(path))
    except OSError as error:
        msg = f"{path}: cannot be read ({error.strerror}); give the path of a bundle"
        raise BundleError(msg) from error


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sottovoce" / "prepared"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sottovoce-train", description="Corpora of emotional speech to a model bundle."
    )
    parser.add_argument("--verbose", action="store_true", help="log every epoch and every skipped file")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    cache = _default_cache()

    prepare = commands.add_parser("prepare", help="read corpora, list what is missing, cache 16 kHz clips")
    prepare.add_argument(
        "--data", type=Path, required=True, help="folder that holds RAVDESS, TESS, SAVEE, EMO-DB, or some"
    )
    prepare.add_argument("--out", type=Path, default=cache, help="cache folder (default: %(default)s)")
    prepare.set_defaults(command=_prepare)

    train = commands.add_parser("train", help="train, quantize and test an experiment, fold by fold")
    train.add_argument("--config", type=Path, required=True, help="experiment, such as training/configs/small.toml")
    train.add_argument("--data", type=Path, default=cache, help="cache that `prepare` wrote (default: %(default)s)")
    train.add_argument("--out", type=Path, help="run folder (default: runs/<experiment>)")
    train.add_argument("--fold", type=int, help="run this fold alone")
    train.add_argument("--by-clip", action="store_true", help="split by clip, as the paper did: optimistic, to compare")
    train.add_argument(
        "--threads",
        type=int,
        default=2,
        help="threads of TensorFlow (default: %(default)s)",
    )
    train.set_defaults(command=_train)

    evaluate = commands.add_parser("evaluate", help="what a node with a bundle says about recordings")
    evaluate.add_argument("--bundle", type=Path, required=True, help="bundle file")
    evaluate.add_argument("--data", type=Path, default=cache, help="corpora or a prepared cache (default: %(default)s)")
    evaluate.add_argument("--speakers", choices=("held-out", "all"), default="held-out", help="default: %(default)s")
    evaluate.add_argument("--json", action="store_true", help="one JSON object on stdout, nothing else")
    evaluate.add_argument("--plot", type=Path, help="write confusion matrices as PNG")
    evaluate.set_defaults(command=_evaluate)

    bundle = commands.add_parser("bundle", help="make the archive that nodes run of a trained fold")
    bundle.add_argument("--run", type=Path, required=True, help="run folder that `train` wrote")
    bundle.add_argument("--name", required=True, help="of the model: lower-case letters, digits, dots, dashes")
    bundle.add_argument("--version", type=int, required=True, help="of the model, from 1")
    bundle.add_argument("--out", type=Path, required=True, help="file to write")
    bundle.add_argument("--fold", type=int, default=0, help="whose weights (default: %(default)s)")
    bundle.add_argument(
        "--compare", type=Path, action="append", default=[], help="another run folder, for the evaluation card; repeat"
    )
    bundle.add_argument(
        "--data", type=Path, help="corpora or a prepared cache: evaluate on every speaker, for the evaluation card"
    )
    bundle.add_argument(
        "--licence", type=Path, default=_LICENCE, help="text that governs the weights (default: %(default)s)"
    )
    bundle.set_defaults(command=_bundle)
    return parser


if __name__ == "__main__":
    sys.exit(main())
