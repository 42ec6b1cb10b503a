"""`sottovoce-train`: corpora to bundle. Each command is one function that imports what it needs: TensorFlow is slow."""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from broker.contract.errors import SettingsError, exit_with_one_line
from training.data.corpora import CORPORA
from training.exam.commands import add_exam_commands
from training.fitting.calibrate_command import add_calibrate_command
from training.model.export_command import add_export_command
from training.report.command import add_report_command
from training.tuning.command import add_tune_command
from training.tuning.variants_command import add_variants_command

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
    from training.data.prepare import prepare  # noqa: PLC0415 -- keeps --help quick
    from training.printed import print_prepared  # noqa: PLC0415 -- as above

    print_prepared(prepare(args.data, args.out), str(args.out))
    if args.paper_csv:
        from training.data.clips import open_cache  # noqa: PLC0415 -- as above
        from training.data.paper_csv import write_paper_csv  # noqa: PLC0415 -- as above

        rows = write_paper_csv(open_cache(args.out), args.paper_csv)
        print(f"{args.paper_csv}: {rows:,} clips, 47 frames of 13 MFCC each")  # noqa: T201 -- the command's answer
    return 0


def _download(args: argparse.Namespace) -> int:
    from training.data.download import GUIDES, RAVDESS, fetch  # noqa: PLC0415 -- keeps --help quick

    if args.corpus in GUIDES:
        print(GUIDES[args.corpus])  # noqa: T201 -- the command's answer
        return 0
    print(f"{RAVDESS.licence}\n")  # noqa: T201 -- what is to be accepted
    if not args.accept_licence:
        msg = f"{RAVDESS.title}: read the licence above, then add --accept-licence"
        raise SettingsError(msg)
    place = fetch(RAVDESS, args.out)
    print(f"{place}: next, sottovoce-train prepare --data {args.out}")  # noqa: T201 -- the command's answer
    return 0


def _train(args: argparse.Namespace) -> int:
    from training.config import all_speakers, by_clip, load_experiment  # noqa: PLC0415 -- keeps --help quick

    experiment = load_experiment(args.config)  # before TensorFlow, which takes seconds to import
    if args.by_clip:
        experiment = by_clip(experiment, args.only_listed)
    if args.all_speakers:
        experiment = all_speakers(experiment)
    if args.threads < 1:
        msg = f"--threads {args.threads}: allowed is 1 or more"
        raise SettingsError(msg)
    if args.country:
        from training.fitting.energy import check_country  # noqa: PLC0415 -- as said

        check_country(args.country)
    try:
        from training.fitting.train import Options, train  # noqa: PLC0415 -- as said
        from training.model.network import use_threads  # noqa: PLC0415 -- as said
    except ModuleNotFoundError as error:
        msg = f"the package {error.name} is missing: pip install 'sottovoce[training]'"
        raise SettingsError(msg) from error
    from training.printed import print_run  # noqa: PLC0415 -- as said

    use_threads(args.threads)
    out = args.out or Path("runs") / experiment.name
    if args.seeds is not None and args.seeds < 1:
        msg = f"--seeds {args.seeds}: allowed is 1 or more"
        raise SettingsError(msg)
    options = Options(fold=args.fold, seeds=args.seeds, noise=args.noise, again=args.again, country=args.country)
    print_run(train(experiment, args.data, out, options))
    print(f"results: {out}")  # noqa: T201 -- the command's answer
    return 0


def _bundle(args: argparse.Namespace) -> int:
    from training.model.pack import Order, pack  # noqa: PLC0415 -- keeps --help quick

    order = Order(
        run=args.run,
        name=args.name,
        version=args.version,
        fold=args.fold,
        licence=args.licence,
        compare=tuple(args.compare),
        calibration=args.calibration,
        data=args.data,
    )
    bundle = pack(order, args.out)
    members = ", ".join(f"{name} {member.bytes:,}" for name, member in bundle.manifest.members.items())
    print(f"{args.out}: {bundle.manifest.identity}, {args.out.stat().st_size:,} bytes ({members})")  # noqa: T201 -- answer
    print(f"proved on LiteRT with {len(bundle.golden.features)} golden vectors")  # noqa: T201 -- the command's answer
    return 0


def _baseline(args: argparse.Namespace) -> int:
    from training.baseline.command import baseline, print_baseline, save_baseline  # noqa: PLC0415 -- keeps --help quick
    from training.data.clips import open_cache  # noqa: PLC0415 -- as above

    result, predictions = baseline(
        open_cache(args.data), args.features, fold=args.fold, by_clip=args.by_clip, noise=args.noise
    )
    if args.out:
        save_baseline(result, predictions, args.out)
    if args.json:
        print(msgspec.json.encode(result).decode())  # noqa: T201 -- the command's answer
    else:
        print_baseline(result)
    return 0


def _default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sottovoce" / "prepared"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sottovoce-train", description="Corpora of emotional speech to a model bundle."
    )
    parser.add_argument("--verbose", action="store_true", help="log every epoch and every skipped file")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    cache = _default_cache()
    _add_data_commands(commands, cache)
    _add_train_command(commands, cache)
    add_tune_command(commands, cache)
    add_variants_command(commands, cache)
    add_calibrate_command(commands, cache)
    add_exam_commands(commands, cache)
    add_export_command(commands)
    _add_baseline_command(commands, cache)
    add_report_command(commands)
    _add_bundle_command(commands)
    return parser


def _add_data_commands(commands: Any, cache: Path) -> None:  # noqa: ANN401 -- argparse's type is private
    download = commands.add_parser("download", help="fetch RAVDESS; for another corpus, say where it is")
    download.add_argument("corpus", choices=[corpus.key for corpus in CORPORA])
    download.add_argument(
        "--out", type=Path, default=Path("corpora"), help="folder of the corpora (default: %(default)s)"
    )
    download.add_argument("--accept-licence", action="store_true", help="I have read the licence and keep to it")
    download.set_defaults(command=_download)

    prepare = commands.add_parser("prepare", help="read corpora, list what is missing, cache 16 kHz clips")
    prepare.add_argument(
        "--data", type=Path, required=True, help="folder of corpora and of recordings.csv tables, or one such table"
    )
    prepare.add_argument("--out", type=Path, default=cache, help="cache folder (default: %(default)s)")
    prepare.add_argument(
        "--paper-csv", type=Path, help="write the paper's features and label of every clip to this file as well"
    )
    prepare.set_defaults(command=_prepare)


def _add_train_command(commands: Any, cache: Path) -> None:  # noqa: ANN401 -- as above
    train = commands.add_parser("train", help="train, quantize and test an experiment, fold by fold")
    train.add_argument("--config", type=Path, required=True, help="experiment, such as training/configs/factory.toml")
    train.add_argument("--data", type=Path, default=cache, help="cache that `prepare` wrote (default: %(default)s)")
    train.add_argument("--out", type=Path, help="run folder (default: runs/<experiment>)")
    train.add_argument("--fold", type=int, help="run this fold alone")
    train.add_argument("--seeds", type=int, help="how many of the experiment's seeds to run (default: all)")
    how = train.add_mutually_exclusive_group()
    how.add_argument("--by-clip", action="store_true", help="split by clip, as the paper did: optimistic, to compare")
    how.add_argument("--all-speakers", action="store_true", help="train on everybody, test nobody: the model to ship")
    train.add_argument("--only-listed", type=Path, help="by clip: CSV file that names the clips to use")
    train.add_argument("--noise", action="store_true", help="test in noise as well: takes ten times as long")
    train.add_argument("--country", help="ISO 3166 alpha-3: whose mix CO2 is counted by (default: the world)")
    train.add_argument("--again", action="store_true", help="repeat what an earlier run has finished")
    train.add_argument("--threads", type=int, default=2, help="threads of TensorFlow (default: %(default)s)")
    train.set_defaults(command=_train)


def _add_baseline_command(commands: Any, cache: Path) -> None:  # noqa: ANN401 -- as above
    baseline = commands.add_parser("baseline", help="what eGeMAPS and a support vector machine reach on the same folds")
    baseline.add_argument("--data", type=Path, default=cache, help="cache that `prepare` wrote (default: %(default)s)")
    baseline.add_argument("--fold", type=int, help="run this fold alone")
    baseline.add_argument("--by-clip", action="store_true", help="five random folds of clips: optimistic, to compare")
    baseline.add_argument("--noise", action="store_true", help="test in noise as well: ten times as long")
    baseline.add_argument("--out", type=Path, help="folder to write results and predictions to")
    baseline.add_argument(
        "--features", type=Path, default=cache.parent / "functionals", help="their cache (default: %(default)s)"
    )
    baseline.add_argument("--json", action="store_true", help="one JSON object on stdout, nothing else")
    baseline.set_defaults(command=_baseline)


def _add_bundle_command(commands: Any) -> None:  # noqa: ANN401 -- as above
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
        "--calibration", type=Path, help="file that `calibrate` wrote: its decision, in place of the run's own"
    )
    bundle.add_argument(
        "--data", type=Path, help="corpora or a prepared cache: evaluate on every speaker, for the evaluation card"
    )
    bundle.add_argument(
        "--licence", type=Path, default=_LICENCE, help="text that governs the weights (default: %(default)s)"
    )
    bundle.set_defaults(command=_bundle)


if __name__ == "__main__":
    sys.exit(main())
