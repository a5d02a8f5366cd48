"""The codec of a line that names none: trained before the run, found again, and on the training split only."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import code_worlds as worlds
import pytest
import torch
from rich.console import Console

from ofasys_lite.cards import modalities
from ofasys_lite.cards.types import TaskCard
from ofasys_lite.codec.train_codec import Images
from ofasys_lite.data.codec_facts import Known
from ofasys_lite.data.source import RowSource
from ofasys_lite.data.splits import open_card
from ofasys_lite.errors import CardError, DataError
from ofasys_lite.layout.ready import DataSettings
from ofasys_lite.plan import build_plan
from ofasys_lite.plan.codecs import codec_slots
from ofasys_lite.training import missing_codecs as codecs
from ofasys_lite.training.missing_codecs import CodecTrainer

LINE = "[TEXT:cap] -> [IMAGE:img,size=8,codec=dnd(depth=2,factor=2,codes=8,steps=3)]"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OFASYS_CACHE", str(tmp_path / "cache"))
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


def trainer(seed: int = 0, layers: int = 2, data: DataSettings = worlds.DATA) -> CodecTrainer:
    console = Console(file=io.StringIO())
    return CodecTrainer(modalities(), data, seed, layers, console, lambda: None, lambda: None)


def found(line: str = LINE, by: CodecTrainer | None = None, **more: Any) -> Known:
    card = worlds.task("draw", Path(), line, **more)
    (slot,) = codec_slots(build_plan(card, modalities()))
    source: RowSource = open_card(card)[0]["train"]
    return (by or trainer()).find(card, slot, source)


def test_a_codec_is_trained_once_and_found_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = found()
    assert first.folder.parent == cache / "codecs"
    assert {"size": 8, "factor": 2, "depth": 2, "codes": 8, "width": 8, "channels": 4}.items() <= first.facts.items()

    def never(*_: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(codecs, "train_codec", never)
    assert found() == first


def test_other_sizes_steps_seeds_and_rows_are_other_codecs() -> None:
    every = [
        found(),
        found(LINE.replace("steps=3", "steps=4")),
        found(LINE.replace("depth=2", "depth=1")),
        found(by=trainer(seed=1)),
        found(count=20),
    ]
    assert len({known.folder for known in every}) == 5
    assert len({known.facts["hash"] for known in every}) == 5


def test_the_same_pictures_make_the_same_codec_wherever_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = found()
    monkeypatch.setenv("OFASYS_CACHE", str(tmp_path / "elsewhere"))
    two = found()
    assert one.folder != two.folder
    assert one.facts == two.facts


def test_an_interrupted_training_goes_on_and_ends_as_the_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = LINE.replace("steps=3", "steps=205")
    whole = found(line)
    monkeypatch.setenv("OFASYS_CACHE", str(tmp_path / "elsewhere"))
    real, seen = Images.batch, []

    def batch(self: Images, rows: Any) -> torch.Tensor:
        seen.append(1)
        if len(seen) == 203:
            raise KeyboardInterrupt
        return real(self, rows)

    monkeypatch.setattr(Images, "batch", batch)
    with pytest.raises(KeyboardInterrupt):
        found(line)
    count = len(seen)
    assert found(line).facts["hash"] == whole.facts["hash"]
    # a checkpoint is kept every 200 steps
    assert len(seen) - count == 5


def splits(card: TaskCard) -> dict[str, int]:
    return {name: len(source) for name, source in open_card(card)[0].items()}


def test_a_run_trains_its_codec_on_the_training_split_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = worlds.rows(40)
    card = worlds.task("draw", Path(), LINE, data={"train": held[:24], "valid": held[24:34], "test": held[34:]})
    assert splits(card) == {"train": 24, "valid": 10, "test": 6}
    seen: list[tuple[int, str]] = []

    class Watched(Images):
        def __init__(self, source: RowSource, column: str, side: int) -> None:
            seen.append((len(source), source.fingerprint))
            super().__init__(source, column, side)

    monkeypatch.setattr(codecs, "Images", Watched)
    worlds.small_run([card], tmp_path / "run", steps=1)
    assert seen == [(24, open_card(card)[0]["train"].fingerprint)]


def refused(line: str, by: CodecTrainer | None = None, **more: Any) -> tuple[str, str]:
    with pytest.raises(CardError) as caught:
        found(line, by, **more)
    return caught.value.message, str(caught.value.help)


def test_a_size_that_the_factor_does_not_divide_is_told_with_its_slot() -> None:
    assert refused("[TEXT:cap] -> [IMAGE:img,size=10]") == (
        "task draw, slot [IMAGE:img]: codec: size 10 is not divisible by factor 4",
        "write size=8",
    )


def test_codes_deeper_than_the_decoder_are_told_before_a_codec_is_trained(cache: Path) -> None:
    assert refused(LINE.replace("depth=2", "depth=4"), trainer(layers=3)) == (
        "task draw, slot [IMAGE:img]: codes of depth 4, and the decoder has 3 layers",
        "depth is at most the number of decoder layers: write depth=3, or take a deeper model",
    )
    assert not (cache / "codecs").exists()
    found(LINE.replace("depth=2", "depth=4,layers=parallel"), trainer(layers=3))


def test_a_codec_is_trained_on_the_pictures_of_a_group() -> None:
    codec = "size=8,codec=dnd(factor=2,steps=3)"
    over = found(f"[TEXT:cap] -> ([IMAGE:img,{codec}] [TEXT:label])*<over=pages>")
    rows = worlds.rows(24)
    lists = [
        {**row, "img": [page["img"] for page in row["pages"]], "label": [p["label"] for p in row["pages"]]}
        for row in rows
    ]
    split = {"train": lists, "valid": lists[:2], "test": lists[:2]}
    walked = found(f"[TEXT:cap] -> ([IMAGE:img,{codec}] [TEXT:label])*", data=split)
    assert over.folder.is_dir()
    assert walked.folder.is_dir()
    nothing = [{**row, "pages": []} for row in rows]
    with pytest.raises(DataError, match="has no image in `pages`"):
        found(
            f"[TEXT:cap] -> ([IMAGE:img,{codec}] [TEXT:label])*<over=pages>",
            data={"train": nothing, "valid": nothing[:2], "test": nothing[:2]},
        )


def test_an_unknown_size_in_the_presets_settings_is_told_with_the_nearest() -> None:
    data = DataSettings(modalities={"IMAGE": {"codec": {"widht": 8}}})
    message, help = refused(LINE, trainer(data=data))
    assert message == "task draw, slot [IMAGE:img]: codec: unknown key `widht`"
    assert "did you mean `width`?" in help


def test_correction_with_levels_of_the_presets_is_told_before_a_codec_is_trained(cache: Path) -> None:
    data = DataSettings(modalities={"IMAGE": {"codec": {"levels": [2, 4]}}})
    message, help = refused(LINE.replace("steps=3", "steps=3,correct=0.1"), trainer(data=data))
    assert message.startswith("task draw, slot [IMAGE:img]: `correct=0.1` with a codec of levels 2 4")
    assert help == "leave `correct` out, or train a codec without --levels"
    assert not (cache / "codecs").exists()


def test_rows_without_an_optional_picture_do_not_count_as_unreadable(cache: Path) -> None:
    line = LINE.replace("IMAGE:img", "IMAGE:sub?")
    assert sum(row["sub"] is None for row in worlds.rows(24)) == 12
    known = found(line)
    assert not (known.folder / "quarantine.jsonl").exists()
    with pytest.raises(DataError, match="12 of 24 images cannot be read"):
        found(LINE.replace("IMAGE:img", "IMAGE:sub").replace("steps=3", "steps=4"))
    broken = [{**row, "sub": b"no picture" if n < 4 else row["sub"]} for n, row in enumerate(worlds.rows(24))]
    with pytest.raises(DataError, match="4 of 24 images cannot be read"):
        found(line, data={"train": broken, "valid": broken[:2], "test": broken[:2]})
    empty = [{**row, "sub": None} for row in worlds.rows(4)]
    with pytest.raises(DataError, match="has no image in `sub`"):
        found(line, data={"train": empty, "valid": empty, "test": empty})
