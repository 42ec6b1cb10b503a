"""A bundle to try updates with: the factory model under another name."""

import argparse
import sys

from broker.contract.errors import SettingsError
from broker.files import write_whole
from deploy.fleet.releases import rename_factory
from edge_node.simulate.work import Behaviour

__all__ = ["run"]


def run(args: argparse.Namespace) -> int:
    """Write the bundle that the arguments name and return the exit code.

    Raises:
        SettingsError: the file cannot be written.
        BundleError: no bundle may have that name or version.
    """
    data = rename_factory(args.identity, is_corrupt=args.kind is Behaviour.CORRUPT)
    try:
        write_whole(args.out, data)
    except OSError as error:
        msg = f"--out {args.out}: {error.strerror}; name a file in a folder that you can write"
        raise SettingsError(msg) from error
    sys.stdout.write(f"{args.out}: {args.identity}, {len(data):,} bytes\n")
    return 0
