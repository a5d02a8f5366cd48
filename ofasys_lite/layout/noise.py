"""How a value becomes noise, and what a model that takes noise away is asked: rectified flow, and diffusion.

At level 0 stands the value, at level 1 noise. Every formula takes floats, numpy arrays and tensors alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ofasys_lite.errors import CardError, did_you_mean

#: What a diffusion model may give: the value (`x0`), the velocity of arXiv 2202.00512 (`v`), the noise (`eps`).
TARGETS = ("x0", "v", "eps")
#: Levels of a diffusion that the line does not give.
STEPS = 1000


@dataclass(frozen=True, slots=True)
class Process:
    """A way from a value to noise.

    Attributes:
        name: `flow`: on a straight line (rectified flow, arXiv 2209.03003); `diffusion`: on a circle, its variance kept
            (the cosine schedule of arXiv 2102.09672).
        target: What the model gives: `velocity` of a flow (value - noise), one of TARGETS of a diffusion.
        steps: Levels that are learned, evenly from 1 / steps to 1; 0: all levels.
    """

    name: str
    target: str
    steps: int = 0

    @classmethod
    def of(cls, name: str, options: Mapping[str, Any]) -> Process:
        """What a line asks for by `loss=flow` or `loss=diffusion(steps=1000,target=x0)`.

        Raises:
            CardError: A target or a number of steps that cannot be.
        """
        if name == "flow":
            return cls(name, "velocity")
        steps, target = options.get("steps", STEPS), options.get("target", "x0")
        if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= 1_000_000:
            help = f"write diffusion(steps={STEPS})"
            raise CardError(f"loss: `steps` of {name} is a whole number from 1 to 1,000,000, not {steps!r}", help=help)
        if target not in TARGETS:
            help = did_you_mean(str(target), TARGETS, f"{name} takes")
            raise CardError(f"loss: `target` of {name} cannot be `{target}`", help=help)
        return cls(name, str(target), steps)

    def scales(self, level: Any) -> tuple[Any, Any]:
        """What the value and the noise are multiplied by at a level."""
        if self.name == "flow":
            return 1 - level, level
        # the value never vanishes, so that the noise alone tells it
        angle = level * (math.pi / 2 - 1e-3)
        return np.cos(angle), np.sin(angle)

    def draw(self, rng: np.random.Generator) -> float:
        """A level to learn."""
        return (int(rng.integers(self.steps)) + 1) / self.steps if self.steps else float(rng.random())

    def goal(self, value: Any, noise: Any, level: float) -> Any:
        """What the model is to give at a level."""
        signal, share = self.scales(level)
        return {
            "velocity": lambda: value - noise,
            "x0": lambda: value,
            "v": lambda: signal * noise - share * value,
            "eps": lambda: noise,
        }[self.target]()

    def split(self, noisy: Any, given: Any, level: float) -> tuple[Any, Any]:
        """(value, noise) by what the model gave at a level above 0."""
        signal, share = map(float, self.scales(level))
        if self.target == "velocity":
            return noisy + share * given, noisy - signal * given
        if self.target == "v":
            return signal * noisy - share * given, share * noisy + signal * given
        if self.target == "x0":
            return given, (noisy - signal * given) / share
        return (noisy - share * given) / signal, given
