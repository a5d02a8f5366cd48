"""Weights here become those of a house, name by name: the same names as in `taking`, the other way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor


class Naming(Protocol):
    """What a house's names are told to: they are taken from it, or given to it."""

    def put(self, ours: str, like: Tensor, *names: str, skip: int = 0, first_rows: bool = False) -> None:
        """`ours` is the house's tensors, end to end; the first `skip` rows of theirs are never read."""

    def layer(self, ours: str, own: Mapping[str, Tensor], *names: str) -> None:
        """A linear layer or norm: its weight, and its bias where ours has one."""


@dataclass(slots=True)
class Giving:
    """Gives our tensors a house's names.

    Attributes:
        state: Theirs, by name.
        given: Our names that went somewhere.
    """

    state: dict[str, Tensor] = field(default_factory=dict)
    given: set[str] = field(default_factory=set)

    def put(self, ours: str, like: Tensor, *names: str, skip: int = 0, first_rows: bool = False) -> None:
        """`like`, cut into as many equal parts as there are names; before it stand `skip` rows of zeros."""
        whole = like.detach().to("cpu", torch.float32)
        if skip:
            whole = torch.cat([whole.new_zeros(skip, *whole.shape[1:]), whole])
        for name, part in zip(names, whole.chunk(len(names)) if len(names) > 1 else (whole,), strict=True):
            self.state[name] = part.clone().contiguous()
        self.given.add(ours)

    def layer(self, ours: str, own: Mapping[str, Tensor], *names: str) -> None:
        """A linear layer or norm: its weight, and its bias where ours has one."""
        for kind in ("weight", "bias"):
            if f"{ours}.{kind}" in own:
                self.put(f"{ours}.{kind}", own[f"{ours}.{kind}"], *(f"{name}.{kind}" for name in names))
