"""The command `export`."""

import argparse
from pathlib import Path
from typing import Any, Final

from broker.contract.errors import SettingsError

__all__ = ["add_export_command"]

_LICENCE: Final = Path(__file__).resolve().parents[2] / "edge_node" / "models" / "LICENSE"


def add_export_command(commands: Any) -> None:  # noqa: ANN401 -- argparse keeps its type private
    """Add the command to a program's.

    Args:
        commands: what `add_subparsers` returned.
    """
    export = commands.add_parser("export", help="a model as files of every kind, compared, and as C for firmware")
    source = export.add_mutually_exclusive_group(required=True)
    source.add_argument("--run", type=Path, help="run folder that `train` wrote")
    source.add_argument("--bundle", type=Path, help="bundle file: its two LiteRT files only")
    export.add_argument("--out", type=Path, required=True, help="folder to write to")
    export.add_argument("--fold", type=int, default=0, help="of the run: whose weights (default: %(default)s)")
    export.add_argument("--seed", type=int, help="of the run: whose weights (default: its first)")
    export.add_argument("--name", help="of the model (default: the run folder's)")
    export.add_argument("--version", type=int, default=1, help="of the model, from 1 (default: %(default)s)")
    export.add_argument("--data", type=Path, help="corpora or a prepared cache: test every kind, and make int8")
    export.add_argument("--rounds", type=int, default=200, help="runs to take times from (default: %(default)s)")
    export.add_argument(
        "--licence",
        type=Path,
        default=_LICENCE,
        help="of the run: text that governs the weights (default: %(default)s)",
    )
    export.add_argument(
        "--spdx",
        default="LicenseRef-Sottovoce-Research-Weights",
        help="SPDX expression for the weights' licence, for C sources (default: %(default)s)",
    )
    export.set_defaults(command=_export)


def _export(args: argparse.Namespace) -> int:
    if args.rounds < 1:
        msg = f"--rounds {args.rounds}: allowed is 1 or more"
        raise SettingsError(msg)
    try:
        from training.model.export import export  # noqa: PLC0415 -- TensorFlow takes seconds to import
        from training.model.network import use_threads  # noqa: PLC0415 -- as said
        from training.model.subject import subject_of_bundle, subject_of_run  # noqa: PLC0415 -- as said
    except ModuleNotFoundError as error:
        msg = f"the package {error.name} is missing: pip install 'sottovoce[training]'"
        raise SettingsError(msg) from error
    from training.model.export_table import as_markdown  # noqa: PLC0415 -- as said
    from training.model.pack import Order  # noqa: PLC0415 -- as said

    use_threads(1)  # as LiteRT has
    if args.bundle:
        subject = subject_of_bundle(args.bundle, args.data)
    else:
        order = Order(
            run=args.run,
            name=args.name or args.run.resolve().name,
            version=args.version,
            fold=args.fold,
            seed=args.seed,
            licence=args.licence,
            data=args.data,
        )
        subject = subject_of_run(order)
    print(as_markdown(export(subject, args.out, args.rounds, args.spdx)))  # noqa: T201 -- the command's answer
    print(f"written to {args.out}")  # noqa: T201 -- the command's answer
    return 0
