"""Checkpoints of OFASys at toy size for tests: stored weights, a ResNet of one block a stage, broken ones."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ofasys_lite.adapters.image_resnet import ResNet

STORED = Path(__file__).resolve().parents[1] / "fixtures" / "ofasys"
_IMAGE = "encoder.adaptor.image_resnet."


def state(pictures: bool = False) -> dict[str, Tensor]:
    """The stored weights; with pictures a ResNet [1, 1, 1] is drawn for them, else all that is theirs is left out."""
    held: dict[str, Tensor] = torch.load(STORED / "state_fp16.pt", weights_only=True)
    if not pictures:
        return {name: tensor for name, tensor in held.items() if not name.startswith(_IMAGE)}
    torch.manual_seed(0)
    drawn = ResNet((1, 1, 1)).state_dict()
    return {**held, **{f"{_IMAGE}embed_images.{name}": tensor for name, tensor in drawn.items()}}


def older_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under the names of OFA, the older repository."""
    pairs = {
        "encoder.adaptor.pos_": "encoder.pos_",
        "decoder.adaptor.pos_": "decoder.self_pos_",
        "encoder.adaptor.embed_tokens": "encoder.embed_tokens",
        "encoder.adaptor.text.layernorm_position": "encoder.pos_ln",
        "decoder.adaptor.text.layernorm_position": "decoder.pos_ln",
        "encoder.adaptor.text.": "encoder.",
        "decoder.adaptor.text.": "decoder.",
        f"{_IMAGE}layernorm_embedding": "encoder.patch_layernorm_embedding",
        f"{_IMAGE}layernorm_position": "encoder.image_pos_ln",
        _IMAGE: "encoder.",
    }
    found: dict[str, Tensor] = {}
    types = []
    for name, tensor in tensors.items():
        if name.endswith("type_embedding.weight"):
            if name.startswith("encoder."):
                types.append((name.startswith(_IMAGE), tensor))
            continue
        old = next((o for o in pairs if name.startswith(o)), None)
        found[name if old is None else pairs[old] + name[len(old) :]] = tensor
    found["encoder.type_embedding.weight"] = torch.cat([tensor for _, tensor in sorted(types, key=lambda t: t[0])])
    return found


def checkpoint(folder: Path, tensors: dict[str, Tensor], name: str = "checkpoint.pt", **more: Any) -> Path:
    """A `.pt` as fairseq writes it, beside its dictionary."""
    content = {
        "args": Namespace(arch="ofasys_tiny", attn_scale_factor=2, data="somewhere"),
        "cfg": None,
        "model": tensors,
        "optimizer_history": [{"num_updates": 3}],
        **more,
    }
    torch.save(content, folder / name)
    (folder / "dict.txt").write_bytes((STORED / "dictionary.txt").read_bytes())
    return folder / name


class Seen(nn.Module):
    """Stands for the picture's adapter: gives the rows that the reference's ResNet made."""

    def __init__(self) -> None:
        super().__init__()
        self.rows_PD = torch.load(STORED / "image_rows.pt", weights_only=True)["rows_PD"]
        self.given = 0

    def embed(self, part: Any) -> Tensor:
        """The next rows of the three pictures, which are asked for in order, again and again."""
        count = sum(part.counts)
        rows = self.rows_PD[torch.arange(self.given, self.given + count) % len(self.rows_PD)]
        self.given += count
        return rows

    def objectives(self) -> dict[str, Any]:
        """None."""
        return {}

    def touch(self) -> Tensor:
        """Nothing to touch."""
        return torch.zeros(())
