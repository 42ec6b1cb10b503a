"""`sottovoce-fleet measure`: what the parts of an update take on this machine, by running the real ones."""

import argparse
import hashlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from broker.files import write_whole
from deploy.fleet.machine import machine
from deploy.fleet.releases import Releases, make_bundle
from edge_node.ota.proof import prove
from edge_node.ota.trust import ask
from edge_node.parts import load_pipeline
from edge_node.simulate.cost import Costs
from edge_node.simulate.work import Behaviour

__all__ = ["measure", "run"]

_ANY_TIME_US: Final = 60_000_000
_START: Final = "import edge_node.__main__; from edge_node.parts import load_pipeline; load_pipeline(None)"


def run(args: argparse.Namespace) -> int:
    """Print the costs, and write them where the arguments say."""
    costs = msgspec.json.format(msgspec.json.encode(measure(args.runs)), indent=1) + b"\n"
    if args.out is not None:
        write_whole(args.out, costs)
    sys.stdout.write(costs.decode())
    return 0


def measure(runs: int) -> Costs:
    """Return the median over so many runs of each part.

    Raises:
        ReleaseError: a repository to look at could not be made.
        BundleError: the factory model does not run here.
    """
    with tempfile.TemporaryDirectory(prefix="sottovoce-fleet-") as name:
        folder = Path(name)
        release, data = make_bundle(1, Behaviour.GOOD)
        bundle = folder / "measured.bundle"
        bundle.write_bytes(data)
        releases = Releases.new(folder / "releases", None)
        releases.add(bundle)
        releases.publish(release)
        metadata, sha256 = releases.folder / "metadata", hashlib.sha256(data).hexdigest()
        anchor, trusted = metadata / "1.root.json", folder / "trusted"
        windows_us: list[int] = []
        return Costs(
            machine=machine(),
            trust_s=_median_s(runs, lambda: ask(metadata, trusted, anchor, releases.channel)),
            proof_s=_median_s(runs, lambda: windows_us.append(prove(bundle, sha256, _ANY_TIME_US).p50_us)),
            load_s=_median_s(runs, lambda: load_pipeline(str(bundle))),
            start_s=_median_s(runs, _start),
            window_ms=round(statistics.median(windows_us) / 1000, 3),
        )


def _median_s(runs: int, action: Callable[[], object]) -> float:
    took = []
    for _ in range(runs):
        began = time.perf_counter()
        action()
        took.append(time.perf_counter() - began)
    return round(statistics.median(took), 4)


def _start() -> None:
    subprocess.run([sys.executable, "-c", _START], check=True, stdin=subprocess.DEVNULL)  # noqa: S603 -- ourselves
