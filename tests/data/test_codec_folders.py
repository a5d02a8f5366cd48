"""Codec folders as plans see them: found, held against the line, or told what is wrong with them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import code_worlds as worlds
import pytest

from ofasys_lite.cards import load_task_card, modalities
from ofasys_lite.codec.image_codec import CodecConfig, ImageCodec, save_codec
from ofasys_lite.data.check_tasks import check_tasks
from ofasys_lite.data.codec_facts import codec_hash, read_codec
from ofasys_lite.errors import CardError, CheckpointError, ErrorGroup
from ofasys_lite.layout.ready import adapter_name
from ofasys_lite.plan import build_plan
from ofasys_lite.plan.codecs import adapter_suffix, codec_of, codec_slots, with_codecs


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return worlds.codec(tmp_path_factory.mktemp("codecs") / "mine")


def refused(line: str, folder: Path) -> tuple[str, str]:
    """(message, help) of a line over a codec folder that cannot be made ready."""
    with pytest.raises(CardError) as caught:
        worlds.ready([worlds.task("draw", folder, line)])
    assert not isinstance(caught.value, ErrorGroup)
    return caught.value.message, str(caught.value.help)


LINE = "[TEXT:cap] -> [IMAGE:img{more},codec=dnd({codec}{said})]"


@pytest.mark.parametrize(
    ("more", "said", "key", "wrong", "right"),
    [
        ("", ",depth=3", "depth", 3, 2),
        ("", ",factor=4", "factor", 4, 2),
        ("", ",codes=16", "codes", 16, 8),
        (",size=16", "", "size", 16, 8),
    ],
)
def test_a_named_codec_of_other_sizes_than_the_line_says_is_refused(
    held: Path, more: str, said: str, key: str, wrong: int, right: int
) -> None:
    line = LINE.replace("{more}", more).replace("{said}", said)
    assert refused(line, held) == (
        f"task draw: the line says {key}={wrong}, the codec in {held} has {key}={right}",
        f"write {key}={right}, leave it out, or name another codec",
    )


def test_sizes_that_agree_may_be_said(held: Path) -> None:
    line = LINE.replace("{more}", ",size=8").replace("{said}", ",depth=2,factor=2,codes=8")
    (task,) = worlds.ready([worlds.task("draw", held, line)]).tasks
    (slot,) = codec_slots(task.plan)
    call = codec_of(slot)
    assert call is not None
    assert {**worlds.SIZES, "hash": codec_hash(held)}.items() <= dict(call.keyed).items()


def test_values_for_each_depth_are_held_against_the_codec_in_the_folder(held: Path) -> None:
    line = LINE.replace("{more}", "").replace("dnd({codec}{said})", "dnd({codec}),decode=sample(top_k=(5,4,3))")
    message = "task draw: decoding: 3 values of `top_k` for codes of depth 2"
    assert refused(line, held) == (message, "give one value, or one for each depth")
    worlds.ready([worlds.task("draw", held, line.replace("(5,4,3)", "(5,4)"))])
    # token ids of the same line take the first
    both = line.replace(" -> ", " -> [TEXT:cap] ").replace("(5,4,3)", "(5,4)")
    worlds.ready([worlds.task("draw", held, both)])


def test_correction_of_codes_side_by_side_is_refused_when_the_plan_is_made(tmp_path: Path) -> None:
    folder = save_codec(ImageCodec(CodecConfig(**worlds.SIZES, levels=(2, 4))), tmp_path / "scalar")
    line = LINE.replace("{more}", "")
    message = (
        "task draw, slot [IMAGE:img]: `correct=0.1` with a codec of levels 2 4, whose deeper codes do not refine the "
        "others"
    )
    assert refused(line.replace("{said}", ",correct=0.1"), folder) == (
        message,
        "leave `correct` out, or train a codec without --levels",
    )
    card = worlds.task("draw", folder, line.replace("{said}", ",correct=0.1"))
    (error,) = check_tasks([card], modalities()).errors
    assert error.message == message
    assert worlds.ready([worlds.task("draw", folder, line.replace("{said}", ",correct=0"))])


def test_a_folder_without_a_codec_says_how_to_train_one(tmp_path: Path) -> None:
    assert refused(worlds.LINES["draw"], tmp_path / "none") == (
        f"task draw, slot [IMAGE:img]: no codec in {tmp_path}/none",
        "train one: ofasys-lite codec train TASK --out FOLDER",
    )


def damaged(folder: Path, to: Path, text: str) -> Path:
    """A copy of the codec with another codec.json."""
    shutil.copytree(folder, to)
    (to / "codec.json").write_text(text)
    return to


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "task draw, slot [IMAGE:img]: {at}/codec.json is not JSON"),
        ("[]", "task draw, slot [IMAGE:img]: {at}/codec.json is of another version"),
        ('{"format": 99}', "task draw, slot [IMAGE:img]: {at}/codec.json is of another version"),
        (
            '{"format": 1, "kind": "audio", "codec": {}}',
            "task draw, slot [IMAGE:img]: {at} is a codec of audio, not of image",
        ),
        ('{"format": 1, "kind": "image"}', "task draw, slot [IMAGE:img]: {at}/codec.json is damaged"),
        (
            '{"format": 1, "kind": "image", "codec": {"codes": "x", "depth": 2}}',
            "task draw, slot [IMAGE:img]: {at}/codec.json is damaged",
        ),
    ],
)
def test_a_damaged_codec_json_is_told(held: Path, tmp_path: Path, text: str, message: str) -> None:
    folder = damaged(held, tmp_path / "bad", text)
    found, _ = refused(worlds.LINES["draw"], folder)
    assert found.startswith(message.format(at=folder))


def test_every_folder_that_is_wrong_is_told_at_once(held: Path, tmp_path: Path) -> None:
    cards = [worlds.task(name, tmp_path / name) for name in ("draw", "twice")]
    with pytest.raises(ErrorGroup) as caught:
        worlds.ready([*cards, worlds.task("both", held)])
    assert [error.message for error in caught.value.errors] == [
        f"task {name}, slot [IMAGE:img]: no codec in {tmp_path}/{name}" for name in ("draw", "twice")
    ]


def test_weights_that_are_missing_or_cut_are_told(held: Path, tmp_path: Path) -> None:
    folder = damaged(held, tmp_path / "bad", (held / "codec.json").read_text())
    prepared = worlds.ready([worlds.task("draw", folder)])
    (folder / "model.safetensors").write_bytes((held / "model.safetensors").read_bytes()[:100])
    with pytest.raises(CheckpointError, match="bad is damaged"):
        worlds.generalist(prepared)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        worlds.generalist(prepared)
    assert refused(worlds.LINES["draw"], folder)[0] == (
        f"task draw, slot [IMAGE:img]: no codec in {folder}: model.safetensors is missing"
    )


def test_weights_of_other_sizes_than_codec_json_says_are_told(held: Path, tmp_path: Path) -> None:
    content = json.loads((held / "codec.json").read_text())
    content["codec"]["codes"] = 16
    folder = damaged(held, tmp_path / "bad", json.dumps(content))
    with pytest.raises(CheckpointError, match="bad is damaged"):
        worlds.generalist(worlds.ready([worlds.task("draw", folder)]))


def test_a_folder_is_looked_up_beside_the_card_before_the_working_directory(
    held: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, beside = tmp_path / "here", tmp_path / "cards"
    worlds.codec(here / "codecs" / "x", seed=1)
    beside.mkdir()
    monkeypatch.chdir(here)
    card = beside / "t.yaml"
    card.write_text("instruction: |\n  [TEXT:cap] -> [IMAGE:img,codec=dnd(codecs/x)]\n")

    def found() -> Any:
        loaded = load_task_card(card)
        held = worlds.task("draw", Path("codecs/x"))
        from dataclasses import replace

        (task,) = worlds.ready([replace(held, path=loaded.path)]).tasks
        return dict(codec_of(codec_slots(task.plan)[0]).keyed)["hash"]  # type: ignore[union-attr]

    assert found() == codec_hash(here / "codecs" / "x")
    shutil.copytree(held, beside / "codecs" / "x")
    assert found() == codec_hash(held) != codec_hash(here / "codecs" / "x")


def test_the_hash_is_of_the_content_not_of_the_place(held: Path, tmp_path: Path) -> None:
    shutil.copytree(held, tmp_path / "copy")
    assert codec_hash(tmp_path / "copy") == codec_hash(held)
    assert codec_hash(worlds.codec(tmp_path / "other", seed=1)) != codec_hash(held)
    assert read_codec(held)["depth"] == 2


FACTS = {"hash": "ab12", "size": 8, "factor": 2, "depth": 2, "codes": 16}


def names(*codecs: str, facts: dict[str, Any] | None = None) -> list[str]:
    """The adapters of slots whose lines say `codecs`, once their codec is known."""
    cards = modalities()
    found = []
    for said in codecs:
        plan = build_plan(load_task_card({"instruction": f"[TEXT:t] -> [IMAGE:img{said}]"}, name="t"), cards)
        (slot,) = codec_slots(with_codecs(plan, {"img": facts or FACTS}))
        found.append(adapter_name(slot, cards["IMAGE"]))
    return found


def test_slots_of_one_codec_and_equal_settings_share_an_adapter() -> None:
    one, two = names("", ",codec=dnd(depth=2)")
    assert one == two
    assert one.startswith("image:dnd-")


def test_slots_of_other_settings_or_another_codec_do_not() -> None:
    found = names("", ",codec=dnd(layers=even)", ",codec=dnd(layers=parallel)", ",codec=dnd(weights=(1,2))")
    found += names("", facts={**FACTS, "hash": "cd34"})
    assert len(set(found)) == 5


def test_a_slot_without_codec_has_no_suffix() -> None:
    plan = build_plan(load_task_card({"instruction": "[IMAGE:img] -> [TEXT:t]"}, name="t"), modalities())
    assert adapter_suffix(plan.templates[0].source[0]) == ""  # type: ignore[arg-type]


def test_lines_over_one_folder_share_adapter_and_codec(held: Path, tmp_path: Path) -> None:
    other = worlds.codec(tmp_path / "other", seed=1)
    cards = [worlds.task("draw", held), worlds.task("both", held), worlds.task("twice", other)]
    prepared = worlds.ready(cards)
    assert sorted(prepared.codecs.values()) == sorted([held, other])
    assert set(prepared.codecs) == {name for name in prepared.adapters if name.startswith("image:dnd-")}


def test_a_codec_that_no_line_names_and_nobody_trains_leaves_the_slot_without() -> None:
    (task,) = worlds.ready([worlds.task("draw", Path(), "[TEXT:cap] -> [IMAGE:img,size=8]")]).tasks
    assert "hash" not in dict(codec_of(codec_slots(task.plan)[0]).keyed)  # type: ignore[union-attr]
    from ofasys_lite.errors import InstructionError

    with pytest.raises(InstructionError, match="the codec of this line is not known"):
        task.maker.constraint(0, {"cap": "a"})
