"""Pictures through a network of others with BatchNorm, and one projection behind it: what its adapters share."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import Self

from ofasys_lite.adapters.image import GridAdapter


class BackboneAdapter(GridAdapter):
    """A `backbone` whose BatchNorm keeps its statistics, also in training: samples of a pack must not see each other.

    Its weights are learned. `project` leads from the backbone's channels E to the width D.
    """

    backbone: nn.Module
    project: nn.Linear

    def train(self, mode: bool = True) -> Self:
        """Sets training mode everywhere but in BatchNorm."""
        super().train(mode)
        for module in self.backbone.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self


class ProjectedBackbone(BackboneAdapter):
    """One whose cells are projected once all pictures of a pack are together."""

    def merged(self, x_PE: Tensor) -> Tensor:
        """(P, D), one product for all images of a pack."""
        x_PD: Tensor = self.project(x_PE)
        return x_PD
