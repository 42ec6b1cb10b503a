"""`sottovoce-node doctor` on the command line."""

import argparse
import logging
import os
import sys
from pathlib import Path

from edge_node.doctor.examine import examine
from edge_node.doctor.show import as_json, show
from edge_node.doctor.support import collect, write
from edge_node.local.report import RecentWarnings

__all__ = ["run"]


def run(arguments: argparse.Namespace) -> int:
    """Examine, print, and return the exit code of the first stage that fails.

    Raises:
        StoreError: the support file cannot be written.
    """
    recent = RecentWarnings()
    logging.getLogger().addHandler(recent)
    config: Path = arguments.config
    examined = examine(config, os.environ)
    if arguments.json:
        sys.stdout.write(as_json(examined.diagnosis))
    else:
        show(examined.diagnosis)
    if arguments.bundle is not None:
        texts = collect(examined, config, recent.remarks)
        write(arguments.bundle, texts)
        said = sys.stderr if arguments.json else sys.stdout
        said.write(f"\n{arguments.bundle}: for whoever helps; its contents.txt:\n\n{texts['contents.txt']}")
    return examined.diagnosis.exit_code
