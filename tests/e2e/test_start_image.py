"""A generalist whose pictures' part begins with weights of others: trained, exported, loaded without their folder."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ofasys_lite import GeneralistModel, Task, fit
from ofasys_lite.adapters.image_efficientnet import EfficientNetLite
from ofasys_lite.adapters.image_tower import TowerAdapter
from ofasys_lite.commands.train import main as train_command
from ofasys_lite.errors import CheckpointError, OfasysError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.interop.image_networks import house_names

TOWERS = Path(__file__).parents[1] / "fixtures" / "vision_tower"
FROZEN = [{"match": "adapters.image.tower.*", "train": False}]
OPTIONS: dict[str, Any] = {"steps": 2, "samples_per_step": 4, "workers": 0, "pieces": 320, "precision": "fp32"}


def noise(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)


def pictures() -> Task:
    task = Task("colour", "[IMAGE:img] which colour? -> [TEXT:label,closed_set]")
    task.add_dataset([{"img": Image.new("RGB", (20, 16), name), "label": name} for name in ("red", "blue") * 12])
    return task


def clips() -> Task:
    task = Task("moves", "[VIDEO:clip,frames=2] does it move? -> [TEXT:label,closed_set]")
    still, moving = np.stack([noise(16, 16)] * 2), noise(2, 16, 16)
    task.add_dataset([{"clip": still, "label": "no"}, {"clip": moving, "label": "yes"}] * 12)
    return task


def small(**settings: Any) -> GeneralistModel:
    modalities = {"IMAGE": settings} if settings else {}
    return GeneralistModel("tiny", width=32, heads=2, encoder_layers=1, decoder_layers=1, modalities=modalities)


def image_adapter(model: GeneralistModel) -> TowerAdapter:
    adapter = model.generalist.network.adapters["image"]
    assert isinstance(adapter, TowerAdapter)
    return adapter


@pytest.mark.parametrize("house", ["clip", "vit", "siglip"])
def test_a_tower_is_trained_exported_and_loaded_without_its_folder(house: str, tmp_path: Path) -> None:
    folder = tmp_path / house
    shutil.copytree(TOWERS / house, folder)
    model = fit(small(), [pictures()], start={"image": folder}, folder=tmp_path / "run", parameters=FROZEN, **OPTIONS)
    ours = image_adapter(model).tower.state_dict()
    theirs = load_file(folder / "model.safetensors")
    first = next(name for name in theirs if name.endswith("layer_norm1.weight" if house != "vit" else "before.weight"))
    assert torch.equal(ours["blocks.0.attention_norm.weight"].cpu(), theirs[first])
    shutil.rmtree(folder)
    again = GeneralistModel.from_pretrained(str(tmp_path / "run"), device="cpu")
    picture = Image.fromarray(noise(50, 70))
    assert again("colour", img=picture).score == pytest.approx(model("colour", img=picture).score, abs=1e-6)
    assert image_adapter(again).cell == 8


def test_pictures_and_clips_share_what_they_begin_with(tmp_path: Path) -> None:
    for house in ("clip", "tower.safetensors"):
        model = fit(
            small(**({"min_pixels": 56 * 56} if house != "clip" else {})),
            [pictures(), clips()],
            start={"image": TOWERS / house},
            folder=tmp_path / house,
            **OPTIONS,
        )
        assert isinstance(image_adapter(model), TowerAdapter)
        assert {"image", "text"} >= set(model.generalist.network.adapters)
        assert model("moves", clip=noise(2, 16, 16)).text in ("yes", "no")


def test_an_efficientnet_needs_neither_its_file_nor_timm_once_it_is_trained(tmp_path: Path) -> None:
    network = EfficientNetLite(0)
    names = dict(house_names(network, theirs=True))
    state = {f"{names[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": x for key, x in network.state_dict().items()}
    torch.save(state, tmp_path / "lite0.pth")
    start = {"image": f"{tmp_path / 'lite0.pth'}?stages=2"}
    model = fit(small(), [pictures()], start=start, folder=tmp_path / "run", **OPTIONS)
    (tmp_path / "lite0.pth").unlink()
    again = GeneralistModel.from_pretrained(str(tmp_path / "run"), device="cpu")
    picture = Image.fromarray(noise(16, 24))
    assert again("colour", img=picture).score == pytest.approx(model("colour", img=picture).score, abs=1e-6)
    assert again.generalist.network.specs["image"].path.endswith("EfficientNetAdapter")


def test_how_pictures_come_may_be_chosen_and_what_the_weights_say_may_not(tmp_path: Path) -> None:
    chosen = small(size=16, crop=None)
    model = fit(chosen, [pictures()], start={"image": TOWERS / "clip"}, folder=tmp_path / "run", **OPTIONS)
    assert model.modalities()["IMAGE"].settings["size"] == 16
    assert model("colour", img=Image.fromarray(noise(50, 70))).text in ("red", "blue")
    for key, value in (("patch", 8), ("pixel_mean", [0.5, 0.5, 0.5])):
        with pytest.raises(CheckpointError, match=f"modalities.IMAGE.{key} is .* and .* is asked for"):
            fit(small(**{key: value}), [pictures()], start={"image": TOWERS / "clip"}, folder=tmp_path / key, **OPTIONS)


def test_boxes_are_refused_in_pictures_that_are_cut(tmp_path: Path) -> None:
    task = Task("where", "[IMAGE:img] where is it? -> [BOX:box]")
    task.add_dataset([{"img": Image.new("RGB", (40, 32)), "box": [0, 0, 8, 8]}] * 12)
    options = {"start": {"image": TOWERS / "clip"}, "folder": tmp_path / "run", **OPTIONS}
    with pytest.raises(
        OfasysError, match=r"(?s)`crop` of IMAGE is 32.*boxes would not follow.*modalities.IMAGE.crop=null"
    ):
        fit(small(), [task], **options)
    fit(small(crop=None), [task], **options)


def test_a_run_goes_on_without_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(TOWERS / "clip", folder)
    start = {"image": folder}
    fit(small(), [pictures()], start=start, folder=tmp_path / "run", **OPTIONS)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()}
    shutil.rmtree(folder)
    longer = {**OPTIONS, "steps": 3}
    model = fit(small(), [pictures()], start=start, folder=tmp_path / "run", resume=True, **longer)
    assert image_adapter(model).tower.sizes.width == 24
    assert before


def test_the_command_takes_a_source_with_its_signs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(TOWERS / "clip", tmp_path / "clip")
    (tmp_path / "clip" / "README.md").write_text("---\nlicense: mit\n---\n")
    for name in ("red", "blue"):
        Image.new("RGB", (20, 16), name).save(f"{name}.png")
    lines = "\n".join(f"{name}.png,{name}" for name in ("red", "blue") * 12)
    (tmp_path / "rows.csv").write_text(f"img,label\n{lines}\n")
    words = [
        *("name=x", "steps=1", "model=tiny", "evaluate=false"),
        *("trainer.workers=0", "trainer.samples_per_step=4", "data.pieces=320"),
        "+tasks.mine.instruction=[IMAGE:img] which colour? -> [TEXT:label,closed_set]",
        "+tasks.mine.data.train=rows.csv",
    ]
    train_command([*words, "start.image=clip?layers=1", "modalities.IMAGE.size=16", "modalities.IMAGE.crop=null"])
    told = " ".join("".join(capfd.readouterr()).split())
    assert "IMAGE begins with CLIP (clip?layers=1)" in told
    assert "licence: mit" in told
    model = Generalist.from_pretrained("runs/x", "cpu")
    assert len(model.network.adapters["image"].tower.blocks) == 1  # type: ignore[union-attr, arg-type]
    assert model.modalities["IMAGE"].settings["size"] == 16
    with pytest.raises(CheckpointError, match=r"(?s)start\.image=clip\?layers=3: `layers` is 3.*it has 2 blocks"):
        train_command([*words[1:], "name=y", "start.image=clip?layers=3"])
