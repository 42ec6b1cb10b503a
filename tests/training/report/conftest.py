"""Runs that nobody trained: made-up answers, graded by the code that grades real ones."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pytest

from broker.contract.bundle import Manifest, Training
from broker.contract.decision import CLASSES, Decision, DecisionSpec
from broker.contract.features import FeatureSpec, Normalisation
from broker.contract.windows import WindowSpec
from training.augment.noise import COLOURS, LEVELS_DB
from training.config import ConvLstm, Experiment, Recipe, SplitChoice, Views
from training.data.clips import Clip
from training.data.corpora import CLASS_OF, Emotion, Sex
from training.exam.evaluate import grade
from training.exam.predictions import PREDICTIONS_NAME, write_predictions
from training.exam.replay import Verdict
from training.exam.sitting import Condition, Exam, Rule, Sitting, Standing, Verdicts, predictions_of
from training.fitting.results import RESULTS_NAME, Energy, Epoch, FoldResult, Machine, Run, fold_folder

MakeClip = Callable[..., Clip]
MakeRun = Callable[..., Path]

Speakers = Sequence[tuple[str, Sex]]

SPEAKERS: tuple[Speakers, ...] = (
    (("ravdess_01", "male"), ("ravdess_02", "female"), ("savee_DC", "male")),
    (("ravdess_03", "male"), ("ravdess_04", "female"), ("tess_OAF", "female")),
)
UNSEEN: Speakers = (("emodb_03", "male"), ("emodb_08", "female"))
FEATURES = FeatureSpec(
    coefficients=20,
    fft_samples=1024,
    hop_samples=320,
    mel_bands=40,
    low_hz=50.0,
    high_hz=7_600.0,
    floor_db=-80.0,
    pitch=True,
    window_range_db=50.0,
    mean_removed=0.5,
)
WINDOW = WindowSpec(length_samples=48_000, hop_samples=8_000)
DECISION = DecisionSpec(smoothing=0.7, uncertain_below=0.46, silent_below_dbfs=-68.0)
NORMALISATION = Normalisation(mean=(0.0,) * FEATURES.columns, deviation=(1.0,) * FEATURES.columns)


class Wish(NamedTuple):
    settings: Experiment
    skill: float
    noise: bool
    random: np.random.Generator


def experiment(name: str, by: str, seeds: Sequence[int]) -> Experiment:
    return Experiment(
        name=name,
        features=FEATURES,
        window=WINDOW,
        views=Views(edges=0.5, pitch_dropout=0.2),
        network=ConvLstm(pooling="mean-std"),
        recipe=Recipe(outputs="emotions", epochs=6, draws=3_500, patience=6, seeds=tuple(seeds), refit=True),
        split=msgspec.convert({"by": by}, SplitChoice),
    )


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> MakeRun:
    """Return a function that writes a run folder; its models are right as often as `skill` says."""

    def make(
        name: str = "made",
        *,
        by: str = "speaker",
        seeds: Sequence[int] = (1, 2),
        skill: float = 0.6,
        noise: bool = True,
        predictions: bool = True,
        folder: Path | None = None,
    ) -> Path:
        folder = folder or tmp_path_factory.mktemp(name)
        random = np.random.default_rng(20)
        wish = Wish(experiment(name, by, seeds), skill, noise, random)
        places: Sequence[int | None] = (None,) if by in {"all", "fixed"} else range(len(SPEAKERS))
        folds = [_fold(wish, fold, seed, folder if predictions else None) for fold in places for seed in seeds]
        run = Run(
            experiment=name,
            created="2026-11-22",
            settings=wish.settings,
            machine=Machine(processor="x86_64", cores=2, python="3.11.7", tensorflow="2.21.0", litert="2.3.0"),
            folds=tuple(folds),
            energy=Energy(kilowatt_hours=0.012, co2_kg=0.004, country="DEU", seconds=900.0),
        )
        (folder / RESULTS_NAME).write_bytes(msgspec.json.encode(run))
        return folder

    return make


def _fold(wish: Wish, fold: int | None, seed: int, folder: Path | None) -> FoldResult:
    settings, skill, random = wish.settings, wish.skill, wish.random
    by = settings.split.by
    tested = () if by == "all" else SPEAKERS[fold or 0]
    others = [speaker for side in SPEAKERS for speaker, _ in side if (speaker, _) not in tested]
    split = {"speaker": "by speaker", "fixed": "fixed", "all": "all speakers"}.get(
        by, "by clip (speakers on both sides: optimistic)"
    )
    origin = Training(
        experiment=settings.name,
        split=split if fold is None else f"{split}, fold {fold}",
        trained_speakers=tuple(others),
        validation_speakers=tuple(others[:1]),
        held_out_speakers=() if by == "clip" else tuple(speaker for speaker, _ in tested),
    )
    exam = _exam(wish, origin, tested)
    told = {group.standing: group for group in grade(exam).groups}
    if folder is not None and tested:
        place = fold_folder(folder, fold, seed)
        place.mkdir(parents=True, exist_ok=True)
        items = [item for item in predictions_of(exam) if item.corpus != "emodb"]
        write_predictions(items, place / PREDICTIONS_NAME)
    curve = [0.35 + (skill - 0.33) * (1 - 0.6**k) + random.uniform(-0.02, 0.02) for k in range(6)]
    return FoldResult(
        fold=fold,
        seed=seed,
        origin=origin,
        training_clips={"ravdess": 720, "savee": 120},
        epochs=tuple(
            Epoch(loss=1.9 * 0.8**k + 0.3, accuracy=0.4 + 0.08 * k, validation_uar=value)
            for k, value in enumerate(curve)
        ),
        best_epoch=int(np.argmax(curve)),
        parameters=41_271,
        float_bytes=170_564,
        quantized_bytes=60_000,
        normalisation=NORMALISATION,
        temperature=1.21,
        bias=(0.1, -0.2, 0.1),
        decision=DECISION,
        validation=next(iter(told.values())).models["quantized"],
        test=told.get("held out"),
        cross_corpus=told["cross-corpus"],
        test_cropped=told["held out"].models["float"] if settings.name.startswith("paper") and tested else None,
        seconds=60.0,
    )


def _exam(wish: Wish, origin: Training, tested: Speakers) -> Exam:
    manifest = Manifest(
        name=wish.settings.name,
        version=1,
        created="2026-11-22",
        labels=CLASSES,
        features=FEATURES,
        normalisation=NORMALISATION,
        window=WINDOW,
        decision=DECISION,
        litert_at_least="2.3.0",
        training=origin,
        members={},
    )
    groups: tuple[tuple[Standing, Speakers], ...] = (("held out", tested), ("cross-corpus", UNSEEN))
    sittings = tuple(
        Sitting(standing=standing, clips=_clips(speakers), verdicts=_verdicts(_clips(speakers), wish))
        for standing, speakers in groups
        if speakers
    )
    return Exam(manifest=manifest, sittings=sittings, noise="white, pink and babble" if wish.noise else None)


def _clips(speakers: Speakers) -> tuple[Clip, ...]:
    return tuple(
        Clip(
            corpus=speaker.split("_", maxsplit=1)[0],
            speaker=speaker,
            sex=sex,
            emotion=emotion,
            label=CLASS_OF[emotion],
            stem=f"{speaker}-{emotion}-{take}",
            duration_s=2.0,
            source_sha256="",
            sha256=f"{speaker}{emotion}{take}",
            start=0,
        )
        for speaker, sex in speakers
        for emotion in Emotion
        for take in range(4)
    )


def _verdicts(clips: Sequence[Clip], wish: Wish) -> Verdicts:
    conditions: list[Condition | None] = [None]
    if wish.noise:
        conditions += [Condition(colour=colour, below_speech_db=level) for colour in COLOURS for level in LEVELS_DB]
    rules: tuple[Rule, ...] = ("stream", "clip")
    verdicts: Verdicts = {}
    for condition in conditions:
        skill = wish.skill - (0.0 if condition is None else 0.5 / condition.below_speech_db)
        for rule in rules:
            for model in ("quantized", "float"):
                verdicts[condition, rule, model] = [_verdict(clip, skill, wish.random) for clip in clips]
    return verdicts


def _verdict(clip: Clip, skill: float, random: np.random.Generator) -> Verdict:
    truth = CLASSES.index(clip.label)
    decided = truth if random.random() < skill else int(random.integers(len(CLASSES)))
    odds = random.dirichlet(np.ones(3))
    odds[decided] = odds.max() + 0.2
    mean = (odds / odds.sum()).astype(np.float32)
    decision = Decision(label=CLASSES[decided], confidence=float(mean[decided]))
    return Verdict(decided=decided, mean=mean, decisions=(decision,), windows=1, silent=0)
