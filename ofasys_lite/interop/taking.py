"""Weights of one house become those of a network here, name by name; what was taken, what is missing, what is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ofasys_lite.errors import CheckpointError
from ofasys_lite.generalist.parts import Origin


@dataclass(slots=True)
class Taking:
    """Takes tensors of a house.

    Attributes:
        where: The file, for messages.
        source: What there is, by the house's names.
        state: Ours, by name.
        origins: Per name of the house, where it went.
        missing: What was asked for and is not there.
        wrong: What has another shape: (name, its shape, the wanted one).
    """

    where: str
    source: Mapping[str, Tensor]
    state: dict[str, Tensor] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    wrong: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)

    def put(self, ours: str, like: Tensor, *names: str, skip: int = 0, first_rows: bool = False) -> None:
        """Fills `ours` with the house's tensors, end to end.

        Args:
            like: Our tensor, for its shape.
            skip: Rows at the start of the house's tensor that it never reads.
            first_rows: The house's tensor may be longer: the rest is never read.
        """
        absent = [name for name in names if name not in self.source]
        if absent:
            self.missing += absent
            return
        found = [self.source[name].detach().to(torch.float32) for name in names]
        whole = found[0][skip:] if len(found) == 1 and skip else found[0] if len(found) == 1 else torch.cat(found)
        whole = whole[: len(like)] if first_rows else whole
        if len(names) == 1 and whole.numel() == like.numel() and whole.squeeze().shape == like.squeeze().shape:
            whole = whole.reshape(like.shape)
        if whole.shape != like.shape:
            self.wrong.append((" + ".join(names), tuple(whole.shape), tuple(like.shape)))
            return
        first = 0
        for name, each in zip(names, found, strict=True):
            rows = whole.shape[0] if len(names) == 1 and whole.ndim else len(each) if each.ndim else 1
            self.origins[name] = Origin(ours, first, rows)
            first += rows
        self.state[ours] = whole.to(like.dtype).contiguous()

    def layer(self, ours: str, own: Mapping[str, Tensor], *names: str) -> None:
        """A linear layer or norm: its weight, and its bias where ours has one."""
        for kind in ("weight", "bias"):
            if f"{ours}.{kind}" in own:
                self.put(f"{ours}.{kind}", own[f"{ours}.{kind}"], *(f"{name}.{kind}" for name in names))

    def left(self) -> list[str]:
        """Names of the house that went nowhere."""
        return [name for name in self.source if name not in self.origins]

    def check(self, house: str, never: Sequence[str] = ()) -> None:
        """Raises CheckpointError where something is missing, of another shape, or left that changes what is computed.

        Args:
            house: Whose weights these should be.
            never: Beginnings of names that must not be left.
        """
        help = f"are these weights of {house}, and its settings their own? nothing was written"
        if self.missing:
            raise CheckpointError(f"{self.where} lacks {_some(self.missing)}", help=help)
        if self.wrong:
            name, found, wanted = self.wrong[0]
            more = "" if len(self.wrong) == 1 else f" (and {len(self.wrong) - 1} more)"
            raise CheckpointError(
                f"{self.where}: `{name}` has the shape {list(found)}, wanted is {list(wanted)}{more}", help=help
            )
        extra = [name for name in self.left() if name.startswith(tuple(never))] if never else []
        if extra:
            raise CheckpointError(f"{self.where} holds what {house} has not: {_some(extra)}", help=help)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(f"`{name}`" for name in names[:3]) + more
