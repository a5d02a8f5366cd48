"""Small random towers of transformers with what they make of two pictures.

`python tests/interop/make_tower_references.py`, run once with transformers 5.24; the tests read what it wrote, without
the library.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

FOLDER = Path(__file__).parents[1] / "fixtures" / "vision_tower"
SIZES = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 40,
    "image_size": 32,
    "patch_size": 8,
}
#: Heights and widths of the pictures: the tower's own grid, and one for which its table is interpolated.
PICTURES = ((32, 32), (24, 56))


def towers() -> dict[str, nn.Module]:
    """One of each house."""
    import transformers

    houses = {"vit": "ViT", "clip": "CLIPVision", "siglip": "SiglipVision"}
    made = {}
    for name, house in houses.items():
        config = getattr(transformers, f"{house}Config")(**SIZES)
        made[name] = drawn(getattr(transformers, f"{house}Model")(config)).eval()
    return made


def drawn(model: nn.Module) -> nn.Module:
    """The model with weights that make something of what comes in."""
    rng = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        norm = "norm" in name and name.endswith("weight")
        parameter.data = torch.empty_like(parameter).normal_(float(norm), 0.2, generator=rng)
    return model


def pictures() -> list[Tensor]:
    """uint8 (h, w, 3)."""
    rng = torch.Generator().manual_seed(1)
    return [torch.randint(0, 256, (*size, 3), dtype=torch.uint8, generator=rng) for size in PICTURES]


@torch.no_grad()
def outputs(model: Any, picture: Tensor, mean: list[float], deviation: list[float]) -> dict[str, Tensor]:
    """States behind the last layer, without and with what the class token becomes."""
    x = picture.double() / 255
    x = ((x - torch.tensor(mean)) / torch.tensor(deviation)).float().permute(2, 0, 1).unsqueeze(0)
    found = model(x, interpolate_pos_encoding=True, output_hidden_states=True)
    kept = {"last": found.last_hidden_state[0], "before": found.hidden_states[-2][0]}
    if found.pooler_output is not None and type(model).__name__.startswith("CLIP"):
        kept["class"] = found.pooler_output[0]
    return kept


def main() -> None:
    """Writes a folder of each house and its reference."""
    from ofasys_lite.interop.image_parts import image_part

    for name, model in towers().items():
        model.save_pretrained(FOLDER / name)  # type: ignore[operator]
        (FOLDER / name / "generation_config.json").unlink(missing_ok=True)
        settings = image_part(str(FOLDER / name)).settings
        kept = {}
        for number, picture in enumerate(pictures()):
            kept[f"{number}.picture"] = picture
            found = outputs(model, picture, settings["pixel_mean"], settings["pixel_deviation"])
            kept |= {f"{number}.{key}": value.contiguous() for key, value in found.items()}
        save_file(kept, FOLDER / name / "reference.safetensors")


if __name__ == "__main__":
    main()
