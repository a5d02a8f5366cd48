"""`start.image=SOURCE`: EfficientNet-lite in two spellings, timm's backbones, and what is refused, with words."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ofasys_lite.adapters.base import Shared
from ofasys_lite.adapters.image_efficientnet import EfficientNetAdapter, EfficientNetLite
from ofasys_lite.errors import CardError, CheckpointError
from ofasys_lite.generalist.parts import check_finite, fill
from ofasys_lite.interop.image_networks import house_names
from ofasys_lite.interop.image_parts import image_part

FIXTURES = Path(__file__).parent.parent / "fixtures"
TOWERS = FIXTURES / "vision_tower"
D = 32


@pytest.fixture
def timm() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision beside a torch of another build says so
        return pytest.importorskip("timm", exc_type=ImportError)


def drawn(network: nn.Module) -> nn.Module:
    rng = torch.Generator().manual_seed(0)
    for name, value in network.state_dict().items():
        if value.ndim == 1:
            low = 0.5 if name.endswith(("weight", "running_var")) else -0.2
            value.uniform_(low, low + 0.4, generator=rng)
    return network.eval()


def spelled(number: int, theirs: bool) -> tuple[EfficientNetLite, dict[str, Tensor]]:
    """A network, and its weights as a house writes them, the classifier beside them."""
    torch.manual_seed(number)
    network = EfficientNetLite(number)
    drawn(network)
    state = network.state_dict()
    names = dict(house_names(network, theirs))
    found = {f"{names[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": value for key, value in state.items()}
    head = "_fc" if theirs else "classifier"
    return network, {**found, f"{head}.weight": torch.zeros(10, 1280), f"{head}.bias": torch.zeros(10)}


def adapter(part: Any) -> EfficientNetAdapter:
    made = EfficientNetAdapter({**part.settings}, Shared(D, nn.Embedding(4, D)))
    fill(made, part, part.state, part.fresh)
    return made


@pytest.mark.parametrize("theirs", [True, False], ids=["efficientnet_pytorch", "timm"])
def test_efficientnet_in_both_spellings(theirs: bool, tmp_path: Path) -> None:
    network, state = spelled(0, theirs)
    torch.save(state, tmp_path / "lite0.pth")
    part = image_part(str(tmp_path / "lite0.pth"))
    assert (part.house, part.choice, part.settings["lite"], part.settings["patch"]) == (
        "EfficientNet-lite0",
        "efficientnet",
        0,
        16,
    )
    assert set(part.left.values()) == {"it tells ImageNet's classes"}
    x = torch.rand(1, 3, 64, 32) * 2 - 1
    wanted = network((x * 127.5 + 127.5 - 127) / 128)
    with torch.no_grad():
        torch.testing.assert_close(adapter(part).eval().features(x).permute(0, 3, 1, 2), wanted, rtol=1e-4, atol=1e-4)


def test_fewer_stages_leave_the_rest(tmp_path: Path) -> None:
    network, state = spelled(0, True)
    torch.save(state, tmp_path / "lite0.pth")
    part = image_part(f"{tmp_path / 'lite0.pth'}?stages=5")
    assert (part.settings["stages"], part.settings["patch"]) == (5, 8)
    assert part.left["_conv_head.weight"] == "behind the stages that are taken"
    x = torch.rand(1, 3, 32, 32) * 2 - 1
    seen = torch.nn.functional.relu6(network.first((x * 127.5 + 0.5) / 128))
    for stage in network.stages[:5]:
        seen = stage(seen)
    with torch.no_grad():
        torch.testing.assert_close(adapter(part).eval().features(x).permute(0, 3, 1, 2), seen, rtol=1e-4, atol=1e-4)


def test_the_size_is_told_by_the_weights(tmp_path: Path) -> None:
    _, state = spelled(2, False)
    save_file({key: value.contiguous() for key, value in state.items()}, tmp_path / "lite2.safetensors")
    assert image_part(str(tmp_path / "lite2.safetensors")).settings["lite"] == 2


def test_timms_own_code_makes_the_same_of_the_weights(timm: Any, tmp_path: Path) -> None:
    model = drawn(timm.create_model("tf_efficientnet_lite0"))
    torch.save(model.state_dict(), tmp_path / "timm.pth")
    part = image_part(str(tmp_path / "timm.pth"))
    made = adapter(part).eval()
    for size in ((64, 64), (96, 32)):
        x = torch.rand(2, 3, *size) * 2 - 1
        with torch.no_grad():
            wanted = model.forward_features(made.pixels(x)).permute(0, 2, 3, 1)
            torch.testing.assert_close(made.features(x), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet", "test_convnext"])
def test_a_file_of_a_whole_network_of_timm(name: str, timm: Any, tmp_path: Path) -> None:
    from ofasys_lite.adapters.image_timm import TimmAdapter

    model = drawn(timm.create_model(name))
    torch.save(model.state_dict(), tmp_path / "whole.pth")
    part = image_part(f"timm:{name}@{tmp_path / 'whole.pth'}")
    assert (part.choice, part.settings["backbone"], part.settings["checkpoint"]) == ("timm", name, None)
    made = TimmAdapter(dict(part.settings), Shared(D, nn.Embedding(4, D)))
    fill(made, part, part.state, part.fresh)
    for key, value in made.backbone.state_dict().items():
        assert torch.equal(value, part.state[f"backbone.{key}"])
    x = torch.rand(1, 3, 160, 160)
    with torch.no_grad():
        whole = model.forward_intermediates(x, indices=1, norm=False, intermediates_only=True)[-1]
        assert made.eval().backbone(x)[-1].shape == whole.shape


def test_a_network_that_timm_does_not_know(timm: Any) -> None:
    with pytest.raises(CardError, match="did you mean `resnet18`"):
        image_part("timm:resnet_18")


def test_a_file_of_another_network_is_refused(timm: Any, tmp_path: Path) -> None:
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "whole.pth")
    with pytest.raises(CheckpointError, match="lacks `"):
        image_part(f"timm:test_vit@{tmp_path / 'whole.pth'}")


def test_timm_without_a_network_says_what_to_do(timm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def cut_off(name: str, pretrained: bool = False, **kw: Any) -> Any:
        if pretrained:
            raise ConnectionError("no route to host")
        return create(name, **kw)

    monkeypatch.setattr(timm, "create_model", cut_off)
    with pytest.raises(CheckpointError) as error:
        image_part("timm:test_resnet")
    assert "timm cannot fetch the weights of test_resnet: ConnectionError no route to host" in str(error.value)
    assert "timm:test_resnet@FILE" in str(error.value)


def test_timm_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(CardError, match=r"pip install 'ofasys_lite\[image\]'"):
        image_part("timm:resnet18")


# refusals


def copied(house: str, folder: Path) -> Path:
    folder.mkdir()
    for file in (TOWERS / house).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def with_config(folder: Path, **changed: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def with_tensors(folder: Path, change: Callable[[dict[str, Tensor]], None]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def halved(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def of_fewer(tensors: dict[str, Tensor]) -> None:
    del tensors["encoder.layers.1.mlp.fc2.bias"]


def of_other_shape(tensors: dict[str, Tensor]) -> None:
    tensors["encoder.layers.0.mlp.fc1.weight"] = torch.zeros(40, 25)


def of_more(tensors: dict[str, Tensor]) -> None:
    tensors["encoder.layers.2.mlp.fc1.weight"] = torch.zeros(40, 24)


SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "half a file": (halved, "is cut or damaged"),
    "a tensor lacks": (lambda f: with_tensors(f, of_fewer), "lacks `encoder.layers.1.mlp.fc2.bias`"),
    "another shape": (lambda f: with_tensors(f, of_other_shape), "has the shape [40, 25], wanted is [40, 24]"),
    "more blocks": (lambda f: with_tensors(f, of_more), "holds what CLIP's vision tower has not"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "holds no weights"),
    "no config": (lambda f: (f / "config.json").unlink(), "holds no config.json"),
    "a text model": (lambda f: with_config(f, model_type="bert", vocab_size=9), "it reads text: start.text=SOURCE"),
    "a model of sound": (lambda f: with_config(f, model_type="whisper"), "it reads sound: start.audio=SOURCE"),
    "a house that is not known": (lambda f: with_config(f, model_type="dinov2"), "vision towers are read of"),
    "a near house": (lambda f: with_config(f, model_type="clipp"), "did you mean `clip`"),
    "an activation": (lambda f: with_config(f, hidden_act="mish"), "`hidden_act` is mish"),
    "heads": (lambda f: with_config(f, num_attention_heads=5), "a width of 24 and 5 heads"),
    "a size": (lambda f: with_config(f, hidden_size="24"), "`hidden_size` is '24'"),
    "an odd patch": (lambda f: with_config(f, patch_size=7), "patches of 7 pixels"),
    "other positions": (
        lambda f: with_config(f, rope_parameters={"rope_theta": 1e6}),
        "`rope_theta` is 1000000.0",
    ),
    "grey pictures": (lambda f: with_config(f, num_channels=1), "have not three colours"),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_folder_that_is_spoilt_is_refused(name: str, tmp_path: Path) -> None:
    spoil, message = SPOILT[name]
    folder = copied("clip", tmp_path / "clip")
    spoil(folder)
    with pytest.raises(CheckpointError) as error:
        image_part(str(folder))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("{", "is damaged"),
        ('{"image_mean": [0.5]}', "`image_mean`"),
        ('{"do_rescale": false}', "does not bring pixels to 0 to 1"),
        ('{"resample": 9}', "`resample`"),
        ('{"size": {"height": 8, "width": 16}}', "not square"),
        ('{"crop_size": "8"}', "`crop_size`"),
    ],
)
def test_a_processor_that_no_setting_covers_is_refused(said: str, message: str, tmp_path: Path) -> None:
    folder = copied("clip", tmp_path / "clip")
    (folder / "preprocessor_config.json").write_text(said)
    with pytest.raises(CheckpointError) as error:
        image_part(str(folder))
    assert message in str(error.value)


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    _, state = spelled(0, True)
    state["_bn0.running_mean"][3] = float("nan")
    torch.save(state, tmp_path / "lite0.pth")
    with pytest.raises(CheckpointError, match="not finite"):
        check_finite(image_part(str(tmp_path / "lite0.pth")))


def test_sources_that_are_none_are_refused(tmp_path: Path) -> None:
    lite = tmp_path / "lite0.pth"
    _, state = spelled(0, True)
    torch.save(state, lite)
    squeezed = {**state, "_blocks.0._se_reduce.weight": torch.zeros(8, 32, 1, 1)}
    torch.save(squeezed, tmp_path / "b0.pth")
    torch.save({key: state[key] for key in list(state)[:100]}, tmp_path / "half.pth")
    torch.save({"layer.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    (tmp_path / "cut.pth").write_bytes(lite.read_bytes()[:100_000])
    (tmp_path / "words.txt").write_text("hello")
    for source, message in {
        "nothing": "no such file or folder",
        "b0.pth": "squeeze-and-excitation (`_blocks.0._se_reduce.weight`)",
        "half.pth": "no EfficientNet-lite is made so",
        "other.pth": "holds no EfficientNet (it holds layer.weight ...)",
        "cut.pth": "is cut or damaged",
        "words.txt": "no file of weights by its name",
        "lite0.pth?stages=9": "`stages` is 9",
        "lite0.pth?stages=no": "`stages` is 'no'",
        "lite0.pth?layers=2": "`layers` is not of this house",
        "lite0.pth?stage=2": "did you mean `stages`",
    }.items():
        with pytest.raises(CheckpointError) as error:
            image_part(str(tmp_path / source))
        assert message in str(error.value), source


def test_layers_that_a_tower_has_not_are_refused() -> None:
    with pytest.raises(CheckpointError, match="it has 2 blocks"):
        image_part(f"{TOWERS / 'clip'}?layers=3")
    with pytest.raises(CheckpointError, match="its merger belongs behind the last one"):
        image_part(f"{TOWERS / 'tower.safetensors'}?layers=1")


def test_a_text_model_of_ours_or_others_is_told_where_it_belongs() -> None:
    with pytest.raises(CheckpointError, match=r"it reads text: start\.text=SOURCE"):
        image_part(str(FIXTURES / "hugging_face" / "bart"))
