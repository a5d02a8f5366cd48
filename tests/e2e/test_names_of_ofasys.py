"""Every name that a card gives a preprocess or an adapter, OFASys' among them: a line that says it trains a step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_worlds as worlds

from ofasys_lite.cards import load_task_card, modalities
from ofasys_lite.layout.ready import DataSettings, make_ready
from ofasys_lite.plan import build_plan

CARDS = modalities()
SMALL = {
    "IMAGE": {"patch": 8, "widths": [8, 8, 8]},
    "VIDEO": {"written_size": 16},
    "AUDIO": {"channels": 16, "mels": 20, "sample_rate": 8000, "max_seconds": 1.0},
}
#: Networks of other houses have sizes, rates and cells of their own.
OTHERS = {
    "efficientnet": {"IMAGE": {"patch": 16}},
    "whisper": {"AUDIO": {"max_seconds": 1.0}},
    "wav2vec2": {"AUDIO": {"max_seconds": 1.0}},
}
#: Names that are no one's to write: what stands where a slot names nothing.
UNNAMED = {"default", "written"}
#: What a name of OFASys' documents must mean, so that none of them is lost.
KNOWN = {
    "IMAGE": {"imagenet", "imagepretrain", "image_vqgan", "image_resnet", "image_vit"},
    "AUDIO": {"audio_fbank", "audio_tgt_fbank"},
    "VIDEO": {"video_image_sequence"},
    "MOTION": {"motion_6d"},
}
#: Adapters of a library that need not be there.
LIBRARY = {"timm", "image_resnet"}


def value(modality: str, number: int) -> Any:
    rng = np.random.default_rng(number)
    made: dict[str, Any] = {
        "IMAGE": rng.integers(0, 256, (16, 16, 3)).astype(np.uint8),
        "VIDEO": {"frames": rng.integers(0, 256, (4, 16, 16, 3)).astype(np.uint8), "fps": 5},
        "AUDIO": {"array": rng.normal(0, 0.1, 6000).astype(np.float32), "rate": 8000},
        "MOTION": rng.normal(size=(12, 4)).round(3).tolist(),
    }
    return made[modality]


def names() -> list[tuple[str, str, str]]:
    """(modality, attribute, name)."""
    tables = [
        (m, key, table)
        for m in KNOWN
        for key, table in (("preprocess", CARDS[m].preprocess), ("adaptor", CARDS[m].adapter))
    ]
    return [(m, key, name) for m, key, table in tables for name in table if name not in UNNAMED]


def lines(modality: str, key: str, name: str) -> list[str]:
    """Lines that read the name, and lines that write it, as far as the card lets one do so."""
    both = (f"[{modality}:x,{key}={name}] what? -> [TEXT:t]", f"[TEXT:t] -> [{modality}:x,{key}={name}]")
    reads, writes = (_plans(line) for line in both)
    return [line for line, plans in zip(both, (reads, writes), strict=True) if plans]


def _plans(line: str) -> bool:
    try:
        build_plan(load_task_card({"instruction": line}, name="t"), CARDS)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("modality", "name"),
    [("VIDEO", "tower"), ("VIDEO", "efficientnet"), ("VIDEO", "timm"), ("AUDIO", "whisper"), ("AUDIO", "wav2vec2")],
)
def test_an_adapter_that_only_reads_is_refused_where_a_slot_is_written(modality: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"adapter `{name}` reads {modality} and writes nothing"):
        build_plan(load_task_card({"instruction": f"[TEXT:t] -> [{modality}:x,adapter={name}]"}, name="t"), CARDS)


def test_no_name_of_ofasys_is_lost() -> None:
    found = {modality: {name for m, _, name in names() if m == modality} for modality in KNOWN}
    assert all(KNOWN[modality] <= found[modality] for modality in KNOWN)
    assert _plans("[AUDIO:wav] what is said? -> [TEXT:text,preprocess=text_phone]")


@pytest.mark.parametrize(("modality", "key", "name"), names())
def test_a_line_with_the_name_trains_a_step(modality: str, key: str, name: str) -> None:
    if name in LIBRARY:
        pytest.importorskip("timm")
    # codes of pictures need a codec: tests/e2e/test_every_line.py writes them by OFASys' names
    found = [line for line in lines(modality, key, name) if modality != "IMAGE" or line.endswith("-> [TEXT:t]")]
    assert found
    rows = [{"id": str(i), "t": worlds.WORDS[i % 6], "x": value(modality, i)} for i in range(6)]
    for line in found:
        data = DataSettings(pieces=300, bins=32, modalities={**SMALL, **OTHERS.get(name, {})})
        ready = make_ready([worlds.task("t", rows, line=line)], CARDS, data)
        grads = worlds.gradients(worlds.generalist(ready), ready.tasks[0], rows, [range(3)])
        assert np.isfinite(grads["losses"].numpy()).all()
        assert any(modality.lower() in n or "image" in n for n in grads if n.startswith("adapters."))
