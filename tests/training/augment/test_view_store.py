import resource
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from broker.contract.errors import DataError
from broker.contract.features import FeatureSpec, analyse
from broker.contract.windows import WindowSpec
from training.augment.background import gather
from training.augment.view_settings import Copy, Views
from training.augment.view_store import frames_of_views
from training.augment.views import in_crowd, make_views
from training.config import Experiment, PaperLstm, Recipe
from training.data.clips import Clip, Collection
from training.data.synthetic import noise

Frames = list[list[npt.NDArray[np.float32]]]
Make = Callable[..., Clip]

EXPERIMENT = Experiment(
    name="stored",
    features=FeatureSpec(fft_samples=1024, hop_samples=320, mel_bands=20, pitch=True),
    window=WindowSpec(length_samples=8_000, hop_samples=8_000),
    views=Views(copies=(Copy(speeds=(0.9, 1.1)), Copy(noise=("pink", "babble")), Copy(noise=("babble",)))),
    network=PaperLstm(),
    recipe=Recipe(epochs=1, patience=1),
)


class Ears:
    """A collection that remembers what was listened to."""

    def __init__(self, clips: list[Clip]) -> None:
        self.heard: set[str] = set()
        self.collection = Collection(clips=tuple(clips), read=self._read)

    def _read(self, clip: Clip) -> npt.NDArray[np.float32]:
        self.heard.add(clip.key)
        return noise(4_800, "pink", np.random.default_rng(int(clip.sha256[:8], 16))) * np.float32(0.05)


@pytest.fixture
def ears(clip: Make) -> Ears:
    """Two clips each of eight speakers."""
    return Ears([clip(f"ravdess_{actor:02d}", stem=str(take)) for actor in range(1, 9) for take in (1, 2)])


def _load(
    ears: Ears, store: Path, clips: tuple[Clip, ...] | None = None, experiment: Experiment = EXPERIMENT
) -> Frames:
    ears.heard.clear()
    return list(frames_of_views(ears.collection, clips or ears.collection.clips, experiment, store))


def _same(one: Frames, other: Frames) -> bool:
    return all(
        np.array_equal(a, b) for left, right in zip(one, other, strict=True) for a, b in zip(left, right, strict=True)
    )


def _files(store: Path) -> list[Path]:
    return sorted(path for path in store.rglob("*") if path.is_file())


def test_frames_are_those_of_the_views_in_order(ears: Ears, tmp_path: Path) -> None:
    clips = ears.collection.clips
    made = _load(ears, tmp_path)
    crowd = gather(clips, ears.collection.read)
    for clip, frames in zip(clips, made, strict=True):
        views = make_views(ears.collection.read(clip), clip, EXPERIMENT, frozenset(range(4)), crowd)
        assert _same([frames], [[analyse(views[number], EXPERIMENT.features) for number in range(4)]])


def test_second_time_nothing_is_heard(ears: Ears, tmp_path: Path) -> None:
    first = _load(ears, tmp_path)
    assert ears.heard
    again = _load(ears, tmp_path)
    assert not ears.heard
    assert _same(first, again)


def test_nobody_outside_the_training_side_is_ever_heard(ears: Ears, tmp_path: Path) -> None:
    """Not in the background either, and not through what another fold has left in the store."""
    clips = ears.collection.clips
    _load(ears, tmp_path, clips[8:])
    shared = _load(ears, tmp_path, clips[:12])
    assert ears.heard <= {clip.key for clip in clips[:12]}
    fresh = _load(ears, tmp_path / "fresh", clips[:12])
    assert ears.heard == {clip.key for clip in clips[:12]}
    assert _same(shared, fresh)


def test_fold_makes_again_only_what_hears_other_clips(ears: Ears, tmp_path: Path) -> None:
    clips = ears.collection.clips
    first = _load(ears, tmp_path, clips[:10])
    before = {path: path.stat().st_mtime_ns for path in _files(tmp_path)}
    other = _load(ears, tmp_path, clips[6:])
    for offset, clip in enumerate(clips[6:10]):
        babbling = in_crowd(clip, EXPERIMENT)
        assert 3 in babbling
        for number in range(4):
            left, right = first[6 + offset][number], other[offset][number]
            assert np.array_equal(left, right) == (number not in babbling)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(list(tmp_path.iterdir())) == 3  # what folds share, and a crowd each


def test_settings_that_change_no_frame_share_the_store(ears: Ears, tmp_path: Path) -> None:
    _load(ears, tmp_path)
    features = msgspec.structs.replace(
        EXPERIMENT.features, coefficients=20, kind="log-mel", mean_removed=1.0, window_range_db=40.0, delta_frames=2
    )
    recipe = msgspec.structs.replace(EXPERIMENT.recipe, epochs=7, seeds=(1, 2))
    views = msgspec.structs.replace(EXPERIMENT.views, channel=0.9, edges=0.5)
    _load(ears, tmp_path, experiment=msgspec.structs.replace(EXPERIMENT, features=features, recipe=recipe, views=views))
    assert not ears.heard


@pytest.mark.parametrize(
    "changed",
    [
        {"features": msgspec.structs.replace(EXPERIMENT.features, floor_db=-60.0)},
        {"recipe": msgspec.structs.replace(EXPERIMENT.recipe, seed=2)},
        {"window": WindowSpec(length_samples=9_600, hop_samples=8_000)},
        {"views": Views(copies=(Copy(speeds=(0.9, 1.1)), Copy(noise=("pink", "babble")), Copy(noise=("white",))))},
    ],
    ids=["floor", "seed", "window", "copies"],
)
def test_settings_that_change_frames_do_not(ears: Ears, tmp_path: Path, changed: dict[str, object]) -> None:
    first = _load(ears, tmp_path)
    experiment = msgspec.structs.replace(EXPERIMENT, **changed)
    other = _load(ears, tmp_path, experiment=experiment)
    assert not _same(first, other)
    assert _same(other, _load(ears, tmp_path / "fresh", experiment=experiment))
    assert _same(first, _load(ears, tmp_path))


def _torn(content: bytes) -> Iterator[bytes]:
    yield b""
    yield b"no archive"
    yield content[: len(content) // 2]
    rows = content.index(b"'shape': (") + len(b"'shape': (")
    assert content[rows : rows + 3] == b"47,"
    yield content[:rows] + b"27" + content[rows + 2 :]  # frames would be missing, and no sum of them be checked
    for place in range(0, len(content), len(content) // 40):
        yield content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def test_damaged_file_is_made_again(ears: Ears, tmp_path: Path) -> None:
    clips = ears.collection.clips[:2]
    wide = msgspec.structs.replace(EXPERIMENT, features=msgspec.structs.replace(EXPERIMENT.features, mel_bands=64))
    first = _load(ears, tmp_path, clips, wide)
    path = _files(tmp_path)[0]
    for number, bad in enumerate(_torn(path.read_bytes())):
        path.write_bytes(bad)
        assert _same(first, _load(ears, tmp_path, clips, wide)), number


def test_file_of_other_frames_is_made_again(ears: Ears, tmp_path: Path) -> None:
    """As a front-end of another width or another program would leave them."""
    clips = ears.collection.clips[:2]
    first = _load(ears, tmp_path, clips)
    path = _files(tmp_path)[0]
    with np.load(path) as arrays:
        good = dict(arrays)
    for bad in (
        {name: item[:, :-1] for name, item in good.items()},
        {name: item[:5] for name, item in good.items()},
        {name: item.astype(np.float64) for name, item in good.items()},
        {name: item[None] for name, item in good.items()},
        {f"{name}9": item for name, item in good.items()},
        {f"view{name}": item for name, item in good.items()},
        dict(list(good.items())[1:]),
    ):
        np.savez(path, **bad)
        assert _same(first, _load(ears, tmp_path, clips))
        assert ears.heard


def test_full_disk_is_one_line_and_leaves_nothing_half_written(ears: Ears, tmp_path: Path) -> None:
    clips = ears.collection.clips
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, hard))  # no file may grow beyond this: write() fails midway
    try:
        with pytest.raises(DataError) as raised:
            _load(ears, tmp_path, clips)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not _files(tmp_path)
    assert len(_load(ears, tmp_path, clips)) == len(clips)


def test_store_that_cannot_be_written_is_one_line(ears: Ears, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file where a folder should be")
    with pytest.raises(DataError, match="features of training views cannot be written") as raised:
        _load(ears, tmp_path / "store")
    assert str(tmp_path / "store") in str(raised.value)
    assert "\n" not in str(raised.value)


def test_leftover_of_a_killed_run_is_not_read(ears: Ears, tmp_path: Path) -> None:
    first = _load(ears, tmp_path)
    path = _files(tmp_path)[0]
    path.rename(path.with_name(f".{path.name}.1-1.part"))
    assert _same(first, _load(ears, tmp_path))
    assert ears.heard
    assert path.is_file()
