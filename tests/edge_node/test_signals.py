"""Told to stop, a program stops: also while it looks at that very moment whether it was told to."""

import signal
import subprocess
import sys

BUSY = """
from broker.program import stop_on_signals
stop = stop_on_signals()
print("ready", flush=True)
while not stop.wait(0):  # almost always inside the event's lock
    pass
"""


def test_signal_while_the_event_is_looked_at_ends_the_program() -> None:
    for _ in range(15):
        process = subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(10) == 0
        finally:
            process.kill()
            process.stdout.close()
