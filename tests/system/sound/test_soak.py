"""A node listens to a microphone for half an hour, and is then as large as it was. Opt-in: pytest -m slow.

SOTTOVOCE_SOAK_MINUTES sets how long; its figures are printed (pytest -s).
"""

import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import pytest

MINUTES = float(os.environ.get("SOTTOVOCE_SOAK_MINUTES", "30"))
LOOK_EVERY_S = 2.0
MOST_GROWTH_MIB = 2.0
"""Between the second quarter of the time and the last: more than a heap's breathing is a leak."""


def _mib(pid: int) -> float:
    """Return what a process holds in memory, in MiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.slow
@pytest.mark.timeout(MINUTES * 60 + 180)
def test_node_that_listens_for_long_does_not_grow(sound_server: Any, stack: Any, recording: Path) -> None:
    stack.start_collector()
    node = stack.start_microphone_node("vmic", sound_server.environment)
    sizes, began_s, stored_at_three_quarters = [], time.monotonic(), 0
    while (share := (time.monotonic() - began_s) / (MINUTES * 60)) < 1:
        if not sound_server.is_playing():
            sound_server.play(recording)
        assert node.poll() is None, "the node has ended"
        sizes.append((share, _mib(node.pid)))
        if share < 0.75:
            stored_at_three_quarters = stack.stored()
        time.sleep(LOOK_EVERY_S)  # between two looks at another process
    stored = stack.stored()
    sound_server.hush()
    assert stack.stop(node) == 0
    early = statistics.median(mib for share, mib in sizes if 0.25 <= share < 0.5)
    late = statistics.median(mib for share, mib in sizes if share >= 0.75)
    ((dropped, windows, cpu),) = stack.query("SELECT max(dropped_blocks), count(*), avg(cpu_share) FROM telemetry")
    most = max(mib for _, mib in sizes)
    sys.stdout.write(
        f"{MINUTES:g} min: {early:.1f} MiB in the second quarter, {late:.1f} in the last, {most:.1f} at most; "
        f"{stored} events stored, {windows} telemetry messages, {dropped} dropped blocks, CPU {cpu:.3f}\n"
    )
    assert late - early <= MOST_GROWTH_MIB
    assert dropped == 0
    assert stored > stored_at_three_quarters > 0  # it heard to the end
    stack.assert_nothing_lost()
    log = (stack.folder / "home-kitchen.log").read_text()
    assert "WARNING" not in log, log
