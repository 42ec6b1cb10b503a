"""What `compare` and `gates` print: shares in per cent, and one last line that says how it stands."""

from collections.abc import Sequence

from rich.table import Table

from training.data.corpora import title_of
from training.exam.compare import FEWEST_SPEAKERS, Comparison
from training.exam.gates import Gate, Outcome
from training.terminal import grid, number, open_console, say, share

__all__ = ["print_comparison", "print_gates"]


def print_comparison(comparison: Comparison) -> None:
    """Print both models' scores, how certain their difference is, and which is better if the data can tell."""
    console = open_console()
    count = sum(comparison.speakers.values())
    of_corpora = ", ".join(f"{title_of(corpus)} {speakers}" for corpus, speakers in comparison.speakers.items())
    say(console, f"A  {comparison.a}")
    say(console, f"B  {comparison.b}")
    say(console, f"{comparison.clips:,} clips of {number(count, 'speaker')} ({of_corpora}) that both have judged")
    if comparison.a_left_out or comparison.b_left_out:
        a, b = comparison.a_left_out, comparison.b_left_out
        say(console, f"left out: {a:,} clips that A alone, {b:,} that B alone has judged")
    console.print()
    console.print(_scores(comparison))
    console.print()
    console.print(_notes(comparison))
    console.print()
    say(console, _verdict(comparison, count))


def print_gates(bundle: str, gates: Sequence[Gate]) -> None:
    """Print every gate with figure, limit and outcome, and how many stand against a release."""
    console = open_console()
    say(console, f"{bundle}: release gates; shares in per cent, of the quantized model on held-out speakers, stream")
    table = grid("gate", "figure", "limit", "", "outcome", "note", left=("gate", "outcome", "note"))
    for gate in gates:
        figure = "not measured" if gate.figure is None else _amount(gate, gate.figure)
        bound = "at least" if gate.is_floor else "at most"
        table.add_row(gate.what, figure, bound, _amount(gate, gate.limit), gate.outcome, gate.note)
    console.print()
    console.print(table)
    console.print()
    count = {outcome: sum(gate.outcome == outcome for gate in gates) for outcome in Outcome}
    skipped = f", {count[Outcome.SKIPPED]} not measured" if count[Outcome.SKIPPED] else ""
    say(console, f"{count[Outcome.PASSED]} of {len(gates)} gates passed, {count[Outcome.FAILED]} failed{skipped}")


def _scores(comparison: Comparison) -> Table:
    table = grid("", "A", "B", "B - A", "95 % interval of B - A", left=("",))
    rows = {f"UAR {title_of(corpus)}": change for corpus, change in comparison.corpora.items()}
    for name, change in {**rows, "UAR pooled": comparison.uar, "corpus-macro UAR": comparison.macro_uar}.items():
        interval = f"{_points(change.low)} to {_points(change.high)}"
        table.add_row(name, share(change.a), share(change.b), _points(change.difference), interval)
    more = _points(comparison.accuracy_b - comparison.accuracy_a)
    table.add_row("accuracy", share(comparison.accuracy_a), share(comparison.accuracy_b), more)
    return table


def _notes(comparison: Comparison) -> Table:
    test = comparison.mcnemar
    notes = Table.grid(padding=(0, 2))
    notes.add_row("interval", f"paired bootstrap over speakers, {comparison.draws:,} draws, each corpus for itself")
    for corpus in (corpus for corpus, speakers in comparison.speakers.items() if speakers == 1):
        notes.add_row("", f"{title_of(corpus)} has one speaker: how another would fare is not in the interval")
    notes.add_row(
        "McNemar",
        f"accuracy: A alone is right on {test.a_only:,} clips, B alone on {test.b_only:,}; exact, p = {test.p:.2g}. "
        "It applies where clips are independent of each other: with many clips a speaker, p is too small",
    )
    return notes


def _verdict(comparison: Comparison, speakers: int) -> str:
    if not comparison.is_interval_trusted:
        few = f"of {number(speakers, 'speaker')} is not to be trusted, at least {FEWEST_SPEAKERS} are needed"
        return f"The data cannot tell which is better: an interval {few}."
    if comparison.better == "cannot tell":
        return "The data cannot tell which is better: the interval of the corpus-macro UAR includes 0."
    return f"{comparison.better.upper()} is better: the interval of the corpus-macro UAR excludes 0."


def _points(share_of_one: float) -> str:
    return f"{round(100 * share_of_one, 1) + 0.0:+.1f}"  # adding 0 makes -0.0 plain 0.0


def _amount(gate: Gate, value: float) -> str:
    if gate.name == "model_bytes":
        return f"{value:,.0f}"
    return f"{value:.3f}" if gate.name == "latency_ratio" else share(value)
