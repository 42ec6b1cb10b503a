"""`sottovoce-node privacy-check` on the command line."""

import argparse
import logging
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any, Final

from broker.settings import read_settings
from edge_node.privacy.check import bundle_of, report_of
from edge_node.privacy.report import Report
from edge_node.privacy.run import Plan, run_node
from edge_node.privacy.show import as_json, check_out, show, write
from edge_node.settings import NodeSettings

__all__ = ["FAILED", "examine", "run"]

FAILED: Final = 10
"""Exit code: a claim does not hold."""
_MUTED_SHARE: Final = 0.25
_PLAIN: Final[dict[str, Any]] = {"site": "check", "node": "node", "deployment": {"context": "research"}}


def run(arguments: argparse.Namespace) -> int:
    """Run the node, print what was found, and return 0, or 10 where a claim does not hold.

    Raises:
        SettingsError: strace is missing, or the settings or options cannot be used.
        LinkError: there is no broker.
        BundleError: the model cannot be used.
        StoreError: the report cannot be written.
    """
    if arguments.out is not None:
        check_out(arguments.out)
    settings = dict(_PLAIN) if arguments.config is None else _read(arguments.config)
    logging.getLogger("broker.link").setLevel(logging.WARNING)  # of the one that listens to everything
    sys.stderr.write(
        f"The node runs for {arguments.seconds:g} s; then what it wrote is searched, which takes longer.\n"
    )
    report = examine(settings, arguments.seconds)
    if arguments.json:
        sys.stdout.write(as_json(report))
    else:
        show(report)
    if arguments.out is not None:
        write(report, arguments.out)
    return 0 if report.holds else FAILED


def examine(settings: dict[str, Any], seconds: float, program: tuple[str, ...] | None = None) -> Report:
    """Return what a run of the program came to.

    Args:
        settings: the node's, as TOML has them.
        seconds: how long it runs; a quarter of it muted.
        program: another than the node's own.
    """
    bundle = bundle_of(settings)
    muted_s = round(seconds * _MUTED_SHARE, 1)
    plan = Plan(heard_s=seconds - muted_s, muted_s=muted_s, settings=settings)
    if program is not None:
        plan = Plan(heard_s=plan.heard_s, muted_s=muted_s, settings=settings, program=program)
    with tempfile.TemporaryDirectory(prefix="sottovoce-") as folder:
        return report_of(run_node(plan, Path(folder)), settings, bundle, muted_s)


def _read(path: Path) -> dict[str, Any]:
    """Return a node's settings, checked, with its paths as they are from here.

    Raises:
        SettingsError: they cannot be used.
    """
    checked = read_settings(path, NodeSettings)
    settings = tomllib.loads(path.read_text(encoding="utf-8"))
    if checked.bundle is not None:
        settings["bundle"] = str(Path(checked.bundle).absolute())
    if checked.update is not None:
        settings["update"]["anchor"] = str(Path(checked.update.anchor).absolute())
    return settings
