"""A real node takes releases up from a real broker; what a broker, and whoever has it, can do to that."""

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from broker.contract.topics import METADATA
from broker.contract.updates import UpdateState
from edge_node.ota.record import MOST_STARTS

NOT_AUTHORISED = 0x87


def test_update_good_release_is_taken_up_reported_and_run(node: Any, made: Callable[..., bytes]) -> None:
    process = node.start()
    node.until_reported(UpdateState.IDLE, "made/1")
    node.world.release(made(2))
    report = node.until_reported(UpdateState.IDLE, "made/2")
    node.assert_works_with("made/2")
    assert report.trial is not None
    assert report.trial.windows >= 10
    assert report.trial.agreed == report.trial.classified, "it is the same model"
    assert node.states() == ["idle", "downloading", "verifying", "trial", "committing", "idle"]
    loaded = Path(f"/proc/{process.pid}/maps").read_text()
    assert "litert" in loaded
    assert "cryptography" not in loaded, "signatures are checked in a child, whose memory is gone with it"
    _assert_faults_of_others_count_against_no_model(node, process)


def _assert_faults_of_others_count_against_no_model(node: Any, process: "subprocess.Popen[bytes]") -> None:
    """A microphone that is gone ends every start of the program, and the model has no part in it."""
    process.terminate()
    assert process.wait(30) == 0
    recording, node.world.recording = node.world.recording, node.folder / "gone.wav"
    for _ in range(MOST_STARTS + 1):
        assert node.start().wait(30) == 3
    node.world.recording = recording
    node.start()
    node.assert_works_with("made/2")
    assert node.record().bad == ()


def test_update_of_a_stranger_is_refused_by_its_signature_where_no_acl_stands_in_the_way(
    node: Any, made: Callable[..., bytes], stranger: Any
) -> None:
    """A rogue client replaces all that is retained by releases of its own; who has the right keys can mend it."""
    world = node.world
    world.broker.kill()
    (world.folder / "broker" / "acl").write_text("pattern readwrite #\n")
    world.broker.start()
    node.start()
    node.until_reported(UpdateState.IDLE, "made/1")
    world.mirror()
    rightful = world.releases, world.ring
    world.releases, world.ring = stranger
    world.release(made(9))
    node.until(
        lambda: node.reports()[-1].reason.startswith(("wrong key", "mix and match", "rollback")), "it is refused"
    )
    assert (node.reports()[-1].state, node.reports()[-1].release) == (UpdateState.IDLE, "made/1")
    node.assert_works_with("made/1")
    world.releases, world.ring = rightful
    world.release(made(2))
    node.until_reported(UpdateState.IDLE, "made/2")


def test_update_client_that_is_not_the_release_program_is_refused_by_the_acl(node: Any, listener: Any) -> None:
    client = listener(node.world.settings("collector"), "collector", [])
    try:
        node.until(client.is_connected, "connected")
        assert client.connection is not None
        client.connection.publish(METADATA.at("timestamp.json"), b"{}", retain=True)
        node.until(lambda: bool(client.hear() is not None and client.acknowledged), "an answer")
        assert client.acknowledged == [NOT_AUTHORISED]
    finally:
        client.end()


def test_update_goes_on_when_the_broker_has_lost_everything_and_is_seeded_again(
    node: Any, made: Callable[..., bytes]
) -> None:
    """Killed while a release is tried, its disk gone: the trial goes on, and what is missing comes by `reseed`."""
    world = node.world
    node.start()
    world.release(made(2))
    node.until(lambda: "trial" in node.states(), "a trial")
    world.broker.kill()
    world.broker.forget_state()
    world.broker.start()
    node.until_reported(UpdateState.IDLE, "made/2")
    world.release(made(3))
    node.until_reported(UpdateState.IDLE, "made/3")
    node.assert_works_with("made/3")
    previous = node.record().previous
    assert previous is not None
    assert previous.release == "made/2"


def test_update_aborted_in_its_trial_leaves_the_old_model(node: Any, made: Callable[..., bytes]) -> None:
    node.start(trial_windows=100_000)
    node.world.release(made(2))
    node.until(lambda: any(report.trial is not None for report in node.reports()), "figures of a trial")
    node.world.abort()
    report = node.until_reported(UpdateState.IDLE, "made/1")
    assert report.reason == "aborted: enough"
    node.assert_works_with("made/1")
    assert sorted(path.name for path in (node.folder / "update").glob("*.bundle")) == []
