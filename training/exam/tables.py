"""What `evaluate` prints: shares in per cent, the quantized model's before the float one's.

`verdict_tables` has what `compare` and `gates` print; `training.terminal` what all tables share.
"""

from collections.abc import Iterable
from typing import Final

from rich.console import Console
from rich.table import Table

from broker.contract.decision import CLASSES, Label
from training.data.corpora import title_of
from training.exam.calibration import BINS
from training.exam.evaluate import Evaluation, Figures, Group
from training.exam.metrics import Scores
from training.terminal import grid, number, open_console, say, score_grid, share

__all__ = ["print_evaluation"]

_MOST_SPEAKERS: Final = 12
"""Listed one by one; of more, their number is told."""

Models = dict[str, Figures]


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the figures, new speakers first, those seen in training last and marked."""
    console = open_console()
    has_float = "float" in evaluation.groups[0].models
    say(console, f"{evaluation.bundle} (experiment {evaluation.experiment}), split: {evaluation.split}")
    legend = Table.grid(padding=(0, 2))
    window = f"{evaluation.window_s:g} s"
    legend.add_row("stream", f"as a node hears it, {window} every {evaluation.hop_s:g} s: {evaluation.rule}")
    legend.add_row("clip", f"one decision: {evaluation.clip_rule} ({window})")
    if evaluation.noise:
        legend.add_row("noise", evaluation.noise)
    legend.add_row("UAR", "mean of the three classes' recalls, 33.3 by chance; corpus-macro: mean of the corpora's UAR")
    called = ", ".join(f"{label} ({str(label)[0].upper()})" for label in CLASSES)
    legend.add_row("confusion", f"clips of each true class, called {called}; stream, quantized")
    both = "quantized / float: what a node runs, and its reference" if has_float else "of the quantized model"
    legend.add_row("cells", f"per cent; {both}")
    console.print(legend)
    if evaluation.corrupt:
        say(console, f"{evaluation.corrupt} recordings could not be read; `sottovoce-train prepare` lists them")
    for group in evaluation.groups:
        _print_group(console, group, evaluation.silent_below_dbfs)


def _print_group(console: Console, group: Group, silent_below_dbfs: float) -> None:
    clips, speakers = number(group.models["quantized"].pooled.clips, "clip"), number(len(group.speakers), "speaker")
    console.print()
    say(console, f"{group.standing.upper()}: {group.note}")
    say(console, f"{clips} of {speakers}: {_speakers(group)}")
    for table in (_corpora(group), _confusion(group), *([_noise(group)] if group.noise else [])):
        console.print()
        console.print(table)
    console.print()
    for line in (*_beside(group, silent_below_dbfs), *_breakdown(group)):
        say(console, line)


def _corpora(group: Group) -> Table:
    table = score_grid("heard as")
    for rule, models in (("stream", group.models), ("clip", group.clip)):
        for name, scores in _rows(models):
            table.add_row(
                rule,
                name,
                f"{scores[0].clips:,}",
                *(_pair(getattr(each, key) for each in scores) for key in ("accuracy", "uar", "macro_f1")),
                *(_pair(each.recall[k] for each in scores) for k in range(len(CLASSES))),
            )
        if len(models["quantized"].corpora) > 1:
            table.add_row(rule, "corpus-macro", "", "", _pair(each.macro_uar for each in _both(models)))
        table.add_section()
    return table


def _confusion(group: Group) -> Table:
    called = f"called {' '.join(str(label)[0].upper() for label in CLASSES)}"
    table = grid("confusion", *(f"{label}, {called}" for label in CLASSES), left=("confusion",))
    for name, scores in _rows(group.models):
        table.add_row(name, *("".join(f"{count:6,}" for count in row) for row in scores[0].confusion))
    return table


def _rows(models: Models) -> list[tuple[str, list[Scores]]]:
    """Return the corpora, and where there are several their clips taken as one, each with the models' scores."""
    both = _both(models)
    rows = [(title_of(key), [each.corpora[key] for each in both]) for key in both[0].corpora]
    return [*rows, ("pooled", [each.pooled for each in both])] if len(rows) > 1 else rows


def _noise(group: Group) -> Table:
    keys = list(group.models["quantized"].corpora)
    pooled = ["pooled", "corpus-macro"] if len(keys) > 1 else []
    first, *others = (title_of(key) for key in keys)
    columns = ("accuracy", "macro-F1", f"UAR: {first}", *others, *pooled, "ECE")
    table = grid("heard as", "noise", *columns, left=("heard as",))
    levels = [(f"-{level.below_speech_db} dB", level.pooled) for level in group.noise]
    for rule in ("stream", "clip"):
        quiet = group.models if rule == "stream" else group.clip
        noisy = [(name, judged.models if rule == "stream" else judged.clip) for name, judged in levels]
        for name, models in (("none", quiet), *noisy):
            both = _both(models)
            means = [_pair(each.pooled.uar for each in both), _pair(each.macro_uar for each in both)]
            table.add_row(
                rule,
                name,
                _pair(each.pooled.accuracy for each in both),
                _pair(each.pooled.macro_f1 for each in both),
                *(_pair(each.corpora[key].uar for each in both) for key in keys),
                *(means if pooled else ()),
                _pair(each.ece for each in both),
            )
        table.add_section()
    return table


def _beside(group: Group, silent_below_dbfs: float) -> Iterable[str]:
    quantized = group.models["quantized"]
    said = ", ".join(f"{label} {quantized.decided[label]:,}" for label in Label)
    if unheard := sum(quantized.pooled.unheard):
        yield f"{number(unheard, 'clip')} got no finite answer: wrong"
    wrong = "" if quantized.wrong_share is None else f"; of the others {quantized.wrong_share:.1%} are wrong"
    yield f"said after {number(group.windows, 'window')}: {said} ({quantized.uncertain_share:.1%}){wrong}"
    if group.same_windows is not None and group.same_clips is not None:
        alike = f"{group.same_windows:.2%} of the windows, {group.same_clips:.2%} of the clips"
        yield f"float and quantized agree on {alike}"
    yield (
        f"level gate ({silent_below_dbfs:g} dBFS): would silence {number(group.silenced, 'clip')} altogether, and "
        f"{group.silent_share:.1%} of the windows; they are judged here nevertheless"
    )
    errors = "; ".join(
        f"{rule} {_pair(each.ece for each in _both(models))}"
        for rule, models in (("stream", group.models), ("clip", group.clip))
    )
    caution = f"area under the risk-coverage curve: {share(quantized.aurc)}"
    yield f"calibration error (ECE, {BINS} bins of equal width): {errors}; {caution}"


def _breakdown(group: Group) -> Iterable[str]:
    parts = group.breakdown
    if parts is None:
        return
    emotions = ", ".join(f"{emotion} {100 * each.right:.0f}" for emotion, each in parts.emotions.items())
    yield f"recall by emotion shown: {emotions}"
    sexes = ", ".join(f"{sex} {share(each.uar)}" for sex, each in parts.sexes.items())
    ranked = sorted(parts.speakers.items(), key=lambda item: item[1].uar)
    (worst, least), (best, most) = ranked[0], ranked[-1]
    spread = f"; by speaker from {share(least.uar)} ({worst}) to {share(most.uar)} ({best})" if len(ranked) > 1 else ""
    yield f"UAR by sex: {sexes}{spread}"


def _both(models: Models) -> list[Figures]:
    """Return the quantized model's figures, then the float one's if there are any."""
    return [models[name] for name in ("quantized", "float") if name in models]


def _pair(values: Iterable[float | None]) -> str:
    return "/".join(share(value) for value in values)


def _speakers(group: Group) -> str:
    parts = []
    for key in group.models["quantized"].corpora:
        names = [speaker.removeprefix(f"{key}_") for speaker in group.speakers if speaker.startswith(f"{key}_")]
        parts.append(f"{title_of(key)} {' '.join(names) if len(names) <= _MOST_SPEAKERS else f'({len(names)})'}")
    return "; ".join(parts)
