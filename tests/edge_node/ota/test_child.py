"""Children that crash, hang, grow and chatter: each ends in one plain line, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_node.ota.child import Awake, Child, ChildError, Ending, Limits

pytestmark = pytest.mark.usefixtures("nothing_leaks")

Make = Callable[..., Child]
_PROGRAM = """
import os, signal, sys, time
from edge_node.ota.confined import begin, within

memory_bytes = begin()

def work():
    {work}

sys.exit(within(memory_bytes, work))
"""


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A child that does what it is told."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def make(work: str, *arguments: str, nice: int = 0, **limits: Any) -> Child:
        (tmp_path / "made_child.py").write_text(_PROGRAM.format(work=work.replace("\n", "\n    ")))
        return Child("made_child", arguments, limits=Limits(**limits), nice=nice)

    return make


def _ending(child: Child, data: bytes = b"") -> tuple[Ending, str]:
    with pytest.raises(ChildError) as caught:
        child.run(data)
    return caught.value.ending, str(caught.value)


def test_child_answers_what_it_is_asked_however_much_that_is(child: Make) -> None:
    asked = os.urandom(3_000_000)
    made = child("sys.stdout.buffer.write(sys.stdin.buffer.read()[::-1])", output_bytes=4_000_000)
    assert made.run(asked) == asked[::-1]


@pytest.mark.parametrize(
    ("work", "limits", "ending", "words"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", {}, Ending.CRASHED, "killed by SIGSEGV"),
        ("os.abort()", {}, Ending.CRASHED, "killed by SIGABRT"),
        ("os.kill(os.getpid(), 37)", {}, Ending.CRASHED, "killed by signal 37"),
        ("time.sleep(60)", {"wall_s": 0.5}, Ending.HUNG, "no answer within 0.5 s"),
        ("os.close(1); os.close(2); time.sleep(60)", {"wall_s": 0.5}, Ending.HUNG, "no answer within 0.5 s"),
        ("while True: pass", {"wall_s": 0.5}, Ending.HUNG, "no answer within 0.5 s"),
        ("bytearray(2**26)", {"memory_bytes": 2**25}, Ending.MEMORY, "needs more than 32 MiB"),
        ("sys.exit(7)", {}, Ending.CRASHED, "ended with code 7"),
        (
            "sys.stderr.write('first\\nlast\\x07 words\\n'); os._exit(3)",
            {},
            Ending.CRASHED,
            "ended with code 3: last? words",
        ),
        ("1 / 0", {}, Ending.CRASHED, "ended with code 1: ZeroDivisionError: division by zero"),
        ("sys.stderr.write('x' * 10**7); os._exit(3)", {}, Ending.CRASHED, "ended with code 3: " + 120 * "x"),
        ("while True: print('x' * 999)", {"output_bytes": 5000}, Ending.CRASHED, "answered more than 5000 bytes"),
        (
            "open(sys.path[0] + '/audio', 'w').write('x' * 10**5)",
            {},
            Ending.CRASHED,
            "ended with code 1: OSError: [Errno 27] File too large",
        ),
    ],
)
def test_child_without_an_answer_says_why(
    child: Make, work: str, limits: dict[str, Any], ending: Ending, words: str
) -> None:
    assert _ending(child(work, **limits)) == (ending, words)


def test_child_that_does_not_listen_is_told_no_more(child: Make) -> None:
    assert child("os.close(0); print('enough')").run(bytes(10**6)) == b"enough\n"


def test_child_memory_counts_from_its_libraries_and_is_enough_for_what_is_allowed(child: Make) -> None:
    assert child("print(len(bytearray(2**22)))", memory_bytes=2**23).run() == b"4194304\n"


def test_child_knows_nothing_of_the_nodes_environment(child: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOTTOVOCE_BROKER_PASSWORD", "correct horse")
    seen = child("print(*(f'{name}={os.environ[name]}' for name in os.environ))").run().decode()
    assert "PATH=" in seen
    assert "OPENBLAS_NUM_THREADS=1" in seen
    assert "correct horse" not in seen
    assert "PASSWORD" not in seen


def test_child_has_dues(child: Make) -> None:
    """Its own group; a lower priority; first to go when memory is short; no core; deaf to what ends the node."""
    work = f"""import ctypes, resource
print(os.getpgid(0) == os.getpid(), os.nice(0) - {os.nice(0)}, open('/proc/self/oom_score_adj').read().strip())
print(resource.getrlimit(resource.RLIMIT_CORE), signal.getsignal(signal.SIGTERM) is signal.SIG_IGN)
print(ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))"""
    assert child(work, nice=5).run().decode().splitlines() == ["True 5 1000", "(0, 0) True", "0"]


def test_child_cancelled_by_another_thread_ends_at_once(child: Make, eventually: Callable[..., None]) -> None:
    made = child("time.sleep(60)")
    ended: list[tuple[Ending, str]] = []
    waiting = threading.Thread(target=lambda: ended.append(_ending(made)))
    waiting.start()
    eventually(lambda: made.pid)
    made.cancel()
    waiting.join()
    assert ended == [(Ending.CANCELLED, "cancelled")]
    made.cancel()  # once more does no harm


def test_child_cancelled_before_its_start_never_runs(child: Make) -> None:
    made = child("time.sleep(60)")
    made.cancel()
    assert _ending(made) == (Ending.CANCELLED, "cancelled")
    assert made.pid is None


def test_child_that_cannot_be_started_says_so(child: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert _ending(child("pass")) == (Ending.NOT_STARTED, "cannot be started: No such file or directory")


def test_child_ends_with_what_its_owner_raises(child: Make) -> None:
    made = child("print('said', flush=True); time.sleep(60)")
    with pytest.raises(KeyError):
        made.converse(lambda: b"", {}.__getitem__)  # type: ignore[arg-type]  # it fails at the first answer


@pytest.mark.parametrize("is_working", [False, True], ids=["while it starts", "while it works"])
def test_child_ends_when_the_node_is_killed(
    child: Make, tmp_path: Path, eventually: Callable[..., None], *, is_working: bool
) -> None:
    marker = tmp_path / "works"
    child(f"open('{marker}', 'w').close(); time.sleep(60)")
    node = tmp_path / "node.py"
    node.write_text(
        "import threading, time\n"
        "from edge_node.ota.child import Child, Limits\n"
        "child = Child('made_child', limits=Limits())\n"
        "threading.Thread(target=child.run, daemon=True).start()\n"
        "while child.pid is None: time.sleep(0.001)\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, node], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        orphan = Path(f"/proc/{int(running.stdout.readline())}/stat")
        eventually(lambda: marker.exists() or not is_working)
        running.send_signal(signal.SIGKILL)
    eventually(lambda: not orphan.exists() or orphan.read_text().split()[2] == "Z")  # where nobody reaps orphans


def test_child_that_answered_while_the_node_was_paused_is_heard(child: Make, tmp_path: Path) -> None:
    child("time.sleep(0.2); print('answered')")
    node = tmp_path / "node.py"
    node.write_text(
        "import os, signal, sys\n"
        "from edge_node.ota.child import Child, Limits\n"
        "child = Child('made_child', limits=Limits(wall_s=2))\n"
        "pauses = iter([signal.SIGSTOP])\n"
        "def watch():\n"
        "    for each in pauses: os.kill(os.getpid(), each)\n"
        "child.converse(lambda: b'', sys.stdout.buffer.write, watch)\n"
    )
    with subprocess.Popen([sys.executable, node], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        os.waitid(os.P_PID, running.pid, os.WSTOPPED)
        time.sleep(2.5)  # longer than it may take, and than what counts as a pause
        running.send_signal(signal.SIGCONT)
        said, complaint = running.communicate()
    assert (said, complaint) == (b"answered\n", b"")


def test_clock_of_a_child_stands_still_while_nobody_looks() -> None:
    times = iter([0.0, 0.05, 1.5, 3.4, 1000.0, 1000.1])
    clock = Awake(lambda: next(times))
    assert [round(clock(), 3) for _ in range(5)] == [0.05, 1.5, 3.4, 3.45, 3.55]


def test_child_module_run_by_hand_says_that_it_is_not_for_people() -> None:
    done = subprocess.run([sys.executable, "-m", "edge_node.ota.proof"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "this module is run by the node, not by people\n")
