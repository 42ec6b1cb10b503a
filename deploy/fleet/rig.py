"""`sottovoce-fleet simulate`: broker, collector, repository, controller and fleet, from start to figures."""

import argparse
import sys
from pathlib import Path
from typing import Final

import msgspec

from broker.contract.bundle import read_bundle
from broker.contract.errors import SettingsError
from broker.program import stop_on_signals
from deploy.fleet.director import Director
from deploy.fleet.limits import make_room
from deploy.fleet.live import Display, open_display
from deploy.fleet.outcome import Outcome, broken_promise
from deploy.fleet.place import open_place
from deploy.fleet.releases import make_bundle
from deploy.fleet.report import identity_of, report
from edge_node.models import factory_bundle
from edge_node.ota.trial import TrialSpec
from edge_node.settings import UpdateSettings
from edge_node.simulate.churn import Churn
from edge_node.simulate.cost import Costs
from edge_node.simulate.fleet import Fleet, FleetSpec
from edge_node.simulate.work import Rehearsal

__all__ = ["run"]

_LOOK_S: Final = 0.5
_LEAVE_S: Final = 60.0
_PHASE_S: Final = 25.0
"""What a phase takes beside its spread and its trials, roughly: for when late nodes come."""
_INTERRUPTED: Final = 130
_NODE: Final = UpdateSettings(anchor="-")
"""What a real node's settings say unless somebody changes them."""


def run(args: argparse.Namespace) -> int:
    """Simulate, print the outcome, and return 0 if the release did what its kind promises."""
    make_room(args.nodes)
    stop = stop_on_signals(insist=True)
    args.channel = args.channel or ("stable" if args.broker and not args.repository else "rehearsal")
    spec = _spec(args)
    release, data = make_bundle(args.seed, args.release)
    with open_display(quiet=False) as display, open_place(args, display.say) as place:
        if place.releases is not None:
            (place.folder / "rehearsal.bundle").write_bytes(data)
            place.releases.add(place.folder / "rehearsal.bundle")
            place.releases.publish(release)
            display.say(f"release: {release}, {args.release}, {len(data):,} bytes; {_in_words(spec, args)}")
        fleet = Fleet(spec, place.settings, place.identity, tls=place.tls, anchor=place.anchor, floor=factory_bundle())
        director = Director(
            fleet, place.releases, release, _rollout(args),
            log=place.folder / "controller.log", seconds=args.seconds, stop=stop,
        )  # fmt: skip
        try:
            _play(fleet, director, display, release)
            director.end()
            outcome = report(args, place, fleet, director.ordered_s)
            if place.broker is None and (left := fleet.leave(_LEAVE_S)):
                display.say(f"{left} nodes could not take back what the broker retains of them")
        finally:
            director.end()
            fleet.close()
    _print(outcome, as_json=args.json)
    if stop.is_set():
        return _INTERRUPTED
    broken = broken_promise(args.release, outcome)
    if broken is not None:
        sys.stderr.write(f"sottovoce-fleet: {args.release}: {broken}\n")
    return 0 if broken is None else 1


def _spec(args: argparse.Namespace) -> FleetSpec:
    manifest = read_bundle(factory_bundle(), "the factory model").manifest
    hop_s = manifest.window.hop_samples / manifest.features.sample_rate_hz
    trial_s = hop_s * (args.trial_windows + _NODE.lasting_windows)
    return FleetSpec(
        nodes=args.nodes,
        seed=args.seed,
        rehearsal=Rehearsal(
            behaviour=args.release,
            trial=TrialSpec(
                windows=args.trial_windows,
                most_s=_NODE.trial_most_s,
                budget_us=round(_NODE.budget_ms * 1000),
                agreement_at_least=_NODE.agreement_at_least,
            ),
            lasting_windows=_NODE.lasting_windows,
            hop_s=hop_s,
        ),
        costs=Costs() if args.costs is None else _costs(args.costs),
        churn=Churn(share=args.churn / 100, horizon_s=len(args.percent) * (args.spread + trial_s + _PHASE_S)),
        ramp_per_s=args.ramp,
        speech_share=args.speech / 100,
        channel=args.channel,
    )


def _costs(path: Path) -> Costs:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Costs)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        msg = f"--costs {path}: {why}; name a file that `sottovoce-fleet measure --out` wrote"
        raise SettingsError(msg) from error


def _rollout(args: argparse.Namespace) -> list[str]:
    """Return the options of `sottovoce-release rollout`."""
    return [
        "--percent", ",".join(map(str, args.percent)), "--spread", f"{args.spread}s",
        "--abort-above", str(args.abort_above), "--min-nodes", str(args.min_nodes),
    ]  # fmt: skip


def _in_words(spec: FleetSpec, args: argparse.Namespace) -> str:
    rehearsal = spec.rehearsal
    return (
        f"{spec.nodes:,} nodes, {spec.ramp_per_s:g} switched on a second; phases {','.join(map(str, args.percent))} %, "
        f"spread {args.spread} s, trial {rehearsal.trial.windows * rehearsal.hop_s:g} s, "
        f"lasting {rehearsal.lasting_windows * rehearsal.hop_s:g} s, churn {args.churn} %, seed {spec.seed}"
    )


def _play(fleet: Fleet, director: Director, display: Display, release: str) -> None:
    """Run the fleet until the director says that it is over."""

    def look() -> bool:
        goes_on = director.look()
        display.show(fleet, director, fleet.counts(identity_of(fleet) or release))
        return goes_on

    fleet.start()
    fleet.run(look, _LOOK_S)


def _print(outcome: Outcome, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(msgspec.json.encode(outcome).decode() + "\n")
        return
    took = "never" if outcome.seconds_to_last_node is None else f"{outcome.seconds_to_last_node:g} s"
    sys.stdout.write(
        f"{outcome.release} release {outcome.identity}: {'aborted' if outcome.aborted else 'not aborted'}; "
        f"of {outcome.nodes:,} nodes {outcome.reachable:,} are reachable, {outcome.tried:,} tried it, "
        f"{outcome.rolled_back:,} went back, {outcome.active_new:,} run it, {outcome.rejected:,} rejected it, "
        f"{outcome.stuck:,} are stuck, {outcome.without_model:,} have no model; last change after {took}\n"
        f"per node {outcome.bytes_per_node.down:,} bytes down and {outcome.bytes_per_node.up:,} up; "
        f"{outcome.messages_per_s:,.0f} messages a second; broker: {outcome.broker_cpu_s} s of CPU, "
        f"{outcome.broker_rss_mb} MiB at most, over {outcome.seconds:g} s; simulator: {outcome.simulator_cpu_s} s of "
        f"CPU, timers late by {outcome.late_p95_ms:g} ms (p95)\n"
    )
    for reason, count in outcome.reasons.items():
        sys.stdout.write(f"{count:>6,}  {reason}\n")
