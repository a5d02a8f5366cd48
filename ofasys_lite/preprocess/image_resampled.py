"""IMAGE read as a fixed number of rows, whatever its size: what `adapter=resampler` makes of all of its cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ofasys_lite.errors import InstructionError
from ofasys_lite.plan.segments import Options, option
from ofasys_lite.preprocess.base import Array, Piece, RowContext, Size, line_positions
from ofasys_lite.preprocess.image import ImagePreprocess
from ofasys_lite.preprocess.media import setting

#: Queries that an adapter has where neither card nor preset says it.
QUERIES = 64


class ResampledImage(ImagePreprocess):
    """Images whose rows are the slot's `queries`, in a line; beside `pixels` and `mask` the piece holds its lattice.

    - `down` (L,) and `across` (C,): places of the lines and columns of cells, 0, 1, 2 ...
    """

    def encode(self, value: Any, options: Options, known: RowContext) -> Piece:
        """The piece of an image, `queries` rows."""
        cells = super().encode(value, options, known)
        _, lines, columns = cells.grid or (1, 1, cells.count)
        arrays: dict[str, Array] = {**cells.arrays, "down": np.arange(lines), "across": np.arange(columns)}
        return Piece(cells.adapter, line_positions(_count(options, self.settings)), arrays)

    def rows_of(self, size: Size, options: Options) -> int:
        """The queries."""
        return _count(options, self.settings)

    @classmethod
    def check_options(cls, options: Options, settings: Mapping[str, Any]) -> None:
        """Raises InstructionError for more queries than the adapter has, and for hidden cells."""
        super().check_options(tuple(pair for pair in options if pair[0] != "queries"), settings)
        most, asked = setting(settings, "queries", QUERIES, 1, 4096), _count(options, settings)
        if asked > most:
            raise InstructionError(
                f"`queries={asked}`, and the resampler has {most}",
                help="write fewer, or raise its setting: modalities.IMAGE.queries",
            )
        if option(options, "mask_ratio"):
            raise InstructionError(
                "`mask_ratio` hides rows, and the resampler's rows are no cells", help="leave `adapter` out"
            )


def _count(options: Options, settings: Mapping[str, Any]) -> int:
    said = option(options, "queries")
    return int(str(said)) if said is not None else setting(settings, "queries", QUERIES, 1, 4096)
