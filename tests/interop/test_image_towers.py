"""Towers of others through the project's own preprocess and adapter: stored references, and transformers itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from ofasys_lite.adapters.base import Shared
from ofasys_lite.adapters.image_tower import TowerAdapter
from ofasys_lite.cards import modalities
from ofasys_lite.generalist.parts import Part as PartOfOthers
from ofasys_lite.generalist.parts import fill
from ofasys_lite.interop.image_parts import image_part
from ofasys_lite.layout.pack import Part
from ofasys_lite.preprocess.base import Context, Piece, RowContext
from ofasys_lite.preprocess.image import ImagePreprocess
from ofasys_lite.preprocess.video import VideoPreprocess

HERE = Path(__file__).parent
FIXTURES = HERE.parent / "fixtures" / "vision_tower"
D, LIMIT = 48, 1e-5


def adapter(part: PartOfOthers) -> TowerAdapter:
    torch.manual_seed(0)
    made = TowerAdapter({**modalities()["IMAGE"].settings, **part.settings}, Shared(D, nn.Embedding(4, D)))
    fill(made, part, part.state, part.fresh)
    return made.eval()


def tool(part: PartOfOthers, kind: type = ImagePreprocess, **changed: Any) -> Any:
    settings = {**modalities()["VIDEO"].settings, **part.settings, **changed}
    return kind(Context(settings, None, adapter="image"))


def pack(pieces: Sequence[Piece]) -> Part:
    arrays = {key: [piece.arrays[key] for piece in pieces] for key in ("pixels", "mask")}
    return Part(
        "image",
        torch.arange(sum(piece.count for piece in pieces)),
        tuple(piece.count for piece in pieces),
        {key: torch.from_numpy(np.concatenate(each)) for key, each in arrays.items()},
        {key: tuple(len(x) for x in each) for key, each in arrays.items()},
        tuple(piece.grid for piece in pieces),
    )


def far(found: Tensor, wanted: Tensor) -> float:
    assert found.shape == wanted.shape
    return float((found.detach() - wanted).abs().max())


# Qwen2-VL


@pytest.fixture(scope="module")
def qwen() -> tuple[PartOfOthers, list[Piece], list[Tensor]]:
    part = image_part(str(FIXTURES / "tower.safetensors"))
    stored = load_file(FIXTURES / "pictures.safetensors")
    read = tool(part, min_pixels=56 * 56, max_pixels=28 * 28 * 64)
    pieces = [read.encode(stored[f"image{i}.uint8_hwc"].numpy(), (), RowContext()) for i in (0, 1)]
    return part, pieces, [stored[f"image{i}.merged"] for i in (0, 1)]


def test_qwens_tower_alone_and_packed(qwen: tuple[PartOfOthers, list[Piece], list[Tensor]]) -> None:
    part, pieces, wanted = qwen
    model = adapter(part)
    for piece, each in zip(pieces, wanted, strict=True):
        assert far(model.seen(pack([piece]))[0], each) < LIMIT
    order = [1, 0, 0, 1]
    together = model.seen(pack([pieces[i] for i in order]))[0]
    assert far(together, torch.cat([wanted[i] for i in order])) < LIMIT


def test_qwens_rows_are_its_merged_cells_projected(qwen: tuple[PartOfOthers, list[Piece], list[Tensor]]) -> None:
    part, pieces, wanted = qwen
    model = adapter(part)
    rows = model.embed(pack(pieces))
    assert rows.shape == (sum(map(len, wanted)), D)
    assert [piece.grid for piece in pieces] == [(1, 3, 4), (1, 2, 4)]
    assert model.place is not None
    model.place.weight.data.zero_()
    wanted_PD = model.norm(model.project(torch.cat(wanted)))
    assert far(model.embed(pack(pieces)), wanted_PD.detach()) < 10 * LIMIT


def test_a_clip_of_two_equal_frames_is_qwens_picture(qwen: tuple[PartOfOthers, list[Piece], list[Tensor]]) -> None:
    part, pieces, wanted = qwen
    stored = load_file(FIXTURES / "pictures.safetensors")["image1.uint8_hwc"].numpy()
    read = tool(part, VideoPreprocess, min_pixels=56 * 56, max_pixels=28 * 28 * 64)
    clip = read.encode(np.stack([stored, stored]), (), RowContext())
    model = adapter(part)
    assert far(model.seen(pack([clip]))[0], wanted[1]) < LIMIT
    mixed = model.seen(pack([clip, pieces[0], clip]))[0]
    assert far(mixed, torch.cat([wanted[1], wanted[0], wanted[1]])) < LIMIT


def test_what_was_taken_is_named(qwen: tuple[PartOfOthers, list[Piece], list[Tensor]]) -> None:
    part, _, _ = qwen
    assert (part.house, part.choice, part.settings["patch"], part.left) == ("Qwen2-VL", "tower", 14, {})
    assert part.origins["blocks.1.attn.qkv.weight"].ours == "tower.blocks.1.qkv.weight"
    assert len(part.origins) == len(load_file(FIXTURES / "tower.safetensors"))


# ViT, CLIP, SigLIP


@pytest.fixture(scope="module")
def references() -> Any:
    sys.path.insert(0, str(HERE))
    import make_tower_references

    return make_tower_references


def read_as_is(part: PartOfOthers, pictures: Sequence[Tensor]) -> list[Piece]:
    """Pictures whose sides are patches already, at their own size."""
    read = tool(part, size=None, crop=None, min_pixels=64, max_pixels=10_000)
    pieces: list[Piece] = [read.encode(each.numpy(), (), RowContext()) for each in pictures]
    return pieces


@pytest.mark.parametrize("house", ["vit", "clip", "siglip"])
def test_stored_references_are_met_packed_and_one_by_one(house: str) -> None:
    part = image_part(str(FIXTURES / house))
    wanted = load_file(FIXTURES / house / "reference.safetensors")
    check(adapter(part), read_as_is(part, stored_pictures(wanted)), wanted)


def stored_pictures(wanted: dict[str, Tensor]) -> list[Tensor]:
    return [wanted["0.picture"], wanted["1.picture"]]


def check(model: TowerAdapter, pieces: Sequence[Piece], wanted: dict[str, Tensor]) -> None:
    first = 1 if model.tower.sizes.class_token else 0
    last = [wanted[f"{i}.last"] for i in range(len(pieces))]
    whole = torch.stack([wanted.get(f"{i}.class", each[0]) for i, each in enumerate(last)])
    patches, classes = model.seen(pack(pieces))
    assert far(patches, torch.cat([each[first:] for each in last])) < LIMIT
    for i, piece in enumerate(pieces):
        assert far(model.seen(pack([piece]))[0], last[i][first:]) < LIMIT
    if classes is not None:
        assert far(classes, whole) < LIMIT
    assert (classes is None) == (first == 0)


@pytest.mark.parametrize("house", ["vit", "clip", "siglip"])
def test_fewer_layers_are_the_states_before_the_last_block(house: str) -> None:
    part = image_part(f"{FIXTURES / house}?layers=1")
    wanted = load_file(FIXTURES / house / "reference.safetensors")
    model, pieces = adapter(part), read_as_is(part, stored_pictures(wanted))
    first = 1 if model.tower.sizes.class_token else 0
    before = torch.cat([wanted[f"{i}.before"][first:] for i in range(2)])
    assert far(model.seen(pack(pieces))[0], before) < LIMIT
    assert part.left["encoder.layers.1.mlp.fc1.weight" if house != "vit" else "encoder.layer.1.output.dense.weight"]


@pytest.mark.parametrize("house", ["vit", "clip", "siglip"])
def test_transformers_itself_agrees(house: str, references: Any, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    theirs = references.towers()[house]
    theirs.save_pretrained(tmp_path)
    part = image_part(str(tmp_path))
    pictures = [*references.pictures(), torch.full((40, 16, 3), 77, dtype=torch.uint8)]
    wanted = {}
    for i, picture in enumerate(pictures):
        found = references.outputs(theirs, picture, part.settings["pixel_mean"], part.settings["pixel_deviation"])
        wanted |= {f"{i}.{key}": value for key, value in found.items()}
    check(adapter(part), read_as_is(part, pictures), wanted)


@pytest.mark.parametrize("house", ["vit", "clip", "siglip"])
def test_pictures_come_as_the_houses_own_processor_brings_them(house: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    name = {"vit": "ViT", "clip": "CLIP", "siglip": "Siglip"}[house]
    kind = getattr(transformers, f"{name}ImageProcessorPil", None) or getattr(transformers, f"{name}ImageProcessor")
    sizes: dict[str, Any] = {"size": {"height": 32, "width": 32}}
    if house == "clip":
        sizes = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
    processor = kind(**sizes)
    for file in (FIXTURES / house).iterdir():
        if file.name != "reference.safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    processor.save_pretrained(tmp_path)
    part = image_part(str(tmp_path))
    picture = np.random.default_rng(0).integers(0, 256, (150, 203, 3)).astype(np.uint8)
    wanted = torch.as_tensor(np.asarray(processor(picture, return_tensors="np")["pixel_values"]))[0]
    model, piece = adapter(part), tool(part).encode(picture, (), RowContext())
    x = model.pixels(piece_pixels(piece))
    assert far(x[0], wanted) < LIMIT


def piece_pixels(piece: Piece) -> Tensor:
    """(1, 3, h, w) in -1 to 1."""
    side = int(len(piece.arrays["pixels"]) ** 0.5)
    return (
        torch.from_numpy(piece.arrays["pixels"].copy()).view(1, side, side, 3).permute(0, 3, 1, 2).float() / 127.5 - 1
    )


def patches_of(frames_THWC: np.ndarray[Any, Any], part: PartOfOthers) -> tuple[Tensor, Tensor]:
    """Pixels of patches and (time, lines, columns), as Qwen2-VL's processor lays them out."""
    side, merge = 14, 2
    mean, deviation = (np.array(part.settings[key]) for key in ("pixel_mean", "pixel_deviation"))
    x = ((frames_THWC / 255 - mean) / deviation).astype(np.float32).transpose(0, 3, 1, 2)
    if len(x) % 2:
        x = np.concatenate([x, x[-1:]])
    time, lines, columns = len(x) // 2, x.shape[2] // side, x.shape[3] // side
    x = x.reshape(time, 2, 3, lines // merge, merge, side, columns // merge, merge, side)
    x = x.transpose(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(time * lines * columns, 3 * 2 * side * side)
    return torch.from_numpy(x.copy()), torch.tensor([[time, lines, columns]])


def test_transformers_itself_agrees_on_pictures_and_clips_of_qwen(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLVisionConfig

    kind = transformers.models.qwen2_vl.modeling_qwen2_vl.Qwen2VisionTransformerPretrainedModel
    config = Qwen2VLVisionConfig(depth=2, embed_dim=64, hidden_size=40, num_heads=4, mlp_ratio=2)
    torch.manual_seed(0)
    theirs = kind(config).eval()
    theirs.save_pretrained(tmp_path)
    part = image_part(str(tmp_path))
    said = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2_vl", "vision_config": said}))
    assert image_part(str(tmp_path)).settings == part.settings
    assert (part.settings["min_pixels"], part.settings["max_pixels"]) == (56 * 56, 28 * 28 * 1280)
    rng = np.random.default_rng(0)
    values = [rng.integers(0, 256, (*shape, 3)).astype(np.uint8) for shape in ((1, 84, 56), (5, 56, 112), (4, 56, 56))]
    pictures, clips = tool(part), tool(part, VideoPreprocess)
    pieces = [pictures.encode(values[0][0], (), RowContext()), *(clips.encode(v, (), RowContext()) for v in values[1:])]
    assert [piece.grid for piece in pieces] == [(1, 3, 2), (3, 2, 4), (2, 2, 2)]
    model = adapter(part)
    wanted = []
    for value in values:
        with torch.no_grad():
            found = theirs(*patches_of(value, part))
        wanted.append(found if isinstance(found, Tensor) else found.pooler_output)
    for piece, each in zip(pieces, wanted, strict=True):
        assert far(model.seen(pack([piece]))[0], each) < LIMIT
    assert far(model.seen(pack(pieces))[0], torch.cat(wanted)) < LIMIT


def test_towers_within_larger_models_are_found_and_only_they_are_read(tmp_path: Path, references: Any) -> None:
    transformers = pytest.importorskip("transformers")
    sizes, text = references.SIZES, {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text |= {"intermediate_size": 16, "vocab_size": 50}
    vision = {"depth": 1, "embed_dim": 32, "hidden_size": 16, "num_heads": 2, "mlp_ratio": 2}
    rope = {"rope_type": "default", "type": "default", "mrope_section": [1, 1, 2]}
    whole = {
        "vit": transformers.ViTForImageClassification(transformers.ViTConfig(**sizes, num_labels=3)),
        "clip": transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=sizes)),
        "siglip": transformers.SiglipModel(transformers.SiglipConfig(text_config=text, vision_config=sizes)),
        "qwen2_vl": transformers.Qwen2VLForConditionalGeneration(
            transformers.Qwen2VLConfig(
                text_config={
                    **text,
                    "num_key_value_heads": 2,
                    "rope_scaling": rope,
                    "bos_token_id": 1,
                    "eos_token_id": 2,
                },
                vision_config=vision,
            )
        ),
    }
    for name, model in whole.items():
        model.save_pretrained(tmp_path / name)
        part = image_part(str(tmp_path / name))
        adapter(part)
        assert part.house == {"vit": "ViT", "clip": "CLIP", "siglip": "SigLIP", "qwen2_vl": "Qwen2-VL"}[name]
        others = [key for key, why in part.left.items() if why == "not of the vision tower"]
        assert others
        assert not [key for key in others if "vision" in key or "visual." in key]


def test_a_tower_in_bf16_is_near_the_tower_in_fp32(qwen: tuple[PartOfOthers, list[Piece], list[Tensor]]) -> None:
    for part in (qwen[0], image_part(str(FIXTURES / "clip"))):
        model = adapter(part)
        read = tool(part, min_pixels=56 * 56, max_pixels=28 * 28 * 64)
        piece = read.encode(np.random.default_rng(0).integers(0, 256, (56, 84, 3)).astype(np.uint8), (), RowContext())
        with torch.autocast("cpu", torch.bfloat16):
            found = model.embed(pack([piece])).float()
        assert far(found, model.embed(pack([piece])).detach()) < 0.2
