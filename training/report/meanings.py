"""What each figure of a report means for somebody who puts nodes into rooms."""

from typing import Final

from training.report.document import Table

__all__ = ["MEANINGS"]

_MEANT: Final = {
    "corpus-macro UAR": (
        "Of people who sound pleasant, neutral and unpleasant in equal parts, so many are recognised; guessing gets "
        "33.3. Every corpus counts alike, which makes this the figure to compare models by."
    ),
    "±, lowest, highest": (
        "The standard deviation over the seeds, and the ends: how far the same training ends elsewhere when it begins "
        "with other random numbers. Do not read anything into a difference between two models that is no larger."
    ),
    "accuracy": (
        "The share of clips told rightly, with as many of each class as the corpora happen to have. Most of them are "
        "unpleasant, so a model that always says so scores well and is useless."
    ),
    "UAR per corpus": (
        "How the model does on one set of speakers, microphones and sentences. Your room is one more such set, so "
        "expect the spread between the corpora rather than their mean."
    ),
    "UAR never trained on, unseen": (
        "Actors of another language in another studio, whom no model heard in training. It is the nearest figure here "
        "to strangers in a new place."
    ),
    "OPTIMISTIC": (
        "The clips were divided at random, so the model was tested on speakers it knew. Nobody before your node will "
        "have trained it: do not expect these figures."
    ),
    "by speaker, by sex": (
        "People are not recognised equally well, and the shortest bar is somebody's everyday experience. Do not put a "
        "node where being misread would harm anyone."
    ),
    "by emotion": (
        "The share of each acted emotion that gets the class it counts as. A short bar tells which feelings a node "
        "will mostly miss."
    ),
    "confusion": (
        "A row shows what became of the clips of one true class. Read along it to see which mistake a node makes when "
        "it makes one."
    ),
    "calibration error": (
        "How far the confidence that a node publishes lies, on the whole, from how often it is right. At 5, a "
        "confidence of 70 % is right in about 65 to 75 % of the cases."
    ),
    "risk and coverage": (
        "What would still be wrong if only the surest answers counted. It tells what a higher threshold for "
        "`uncertain` would buy, and how much more often a node would then keep its judgement to itself."
    ),
    "choosing, new, cross-corpus": (
        "Speakers whom the weights have never heard: those who chose the decision, those who chose nothing, and a "
        "corpus that never trains. Expect of your node what the last two show."
    ),
    "answered, wrong": (
        "The windows whose smoothed probability reaches the threshold, and what share of them is wrong: the dot on the "
        "curve. `said` is the same by all rules, margin, hold and confirmation included."
    ),
    "talks": (
        "A speaker's clips in turns of one class, with pauses: what a display shows while people speak. A delay counts "
        "from the turn's first sample, and a window is three seconds long; a turn is missed if its class is never said."
    ),
    "noise": (
        "The same clips with hiss or other voices added, that many decibels below the speech; at 5 dB they are nearly "
        "as loud. Measure your room against it before a microphone hangs far from the mouth."
    ),
    "same decisions": (
        "How often the small integer model that a node runs says the same as its larger original. Near 100, making it "
        "small has cost nothing."
    ),
    "by clip rule": (
        "One decision on the loudest stretch of a clip, instead of the mean over the windows a node hears. Where it "
        "differs much, the figure depends on where windows happen to fall."
    ),
    "parameters, bytes": (
        "What a node downloads with an update and keeps in memory. They say nothing of its speed, which is measured "
        "apart."
    ),
    "energy": (
        "What the training took from the grid, once, for all folds and seeds. What a node uses afterwards is not in it."
    ),
}

MEANINGS: Final = Table(
    caption="In per cent unless said otherwise; of the quantized model, which a node runs",
    header=("figure", "what it means where nodes are deployed"),
    rows=tuple(_MEANT.items()),
    texts=2,
)
