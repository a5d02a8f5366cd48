"""Sources that the decoder reads itself: in front of each target, with which they are one causal stream.

That is a model without encoder whose `source` is `prefix`. Positions of a target go on behind those of its source.
Shape suffixes: S source rows, T target rows, J rows of the joint stream, N encodings, D width, H query heads, G key and
value heads, C channels of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ofasys_lite.errors import ShapeError
from ofasys_lite.model.attention import attend_parts
from ofasys_lite.model.borders import Parts
from ofasys_lite.model.kv_cache import DecodeCache
from ofasys_lite.model.transfer import moved

Tap = Callable[[Tensor], Tensor | None]


class Joint:
    """Where the rows of sources and targets lie in the stream of both; a source stands before each of its targets.

    Args:
        lengths: Rows of each target sequence.
        cross_lengths: Per encoding its target rows, of all its targets, and its source rows.

    Attributes:
        lengths: Rows of each joint sequence. A source without targets is in none.

    Raises:
        ShapeError: The two do not agree.
    """

    def __init__(self, lengths: Sequence[int], cross_lengths: Sequence[tuple[int, int]]) -> None:
        source_rows = sum(source for _, source in cross_lengths)
        order, owners = list[Tensor](), list[int]()
        read, written, rest = 0, 0, list(lengths)
        self.lengths = tuple[int, ...]()
        self._sources = [source for _, source in cross_lengths]
        for number, (target, source) in enumerate(cross_lengths):
            while target > 0 and rest:
                length = rest.pop(0)
                behind = source_rows + written
                order += [torch.arange(read, read + source), torch.arange(behind, behind + length)]
                owners += [number] * length
                self.lengths += (source + length,)
                written, target = written + length, target - length
            if target:
                raise ShapeError("prefix: an encoding ends within a target sequence", help="count whole sequences")
            read += source
        if rest:
            raise ShapeError("prefix: targets that belong to no encoding")
        #: Row of both streams, the source's first, that lies at each place.
        self._order_J = torch.cat(order) if order else torch.zeros(0, dtype=torch.long)
        self._targets_T = (self._order_J >= source_rows).nonzero().flatten()
        self._owners_T = torch.tensor(owners, dtype=torch.long)

    def rows(self, x_SD: Tensor, x_TD: Tensor) -> Tensor:
        """(J, D) rows of both."""
        return torch.cat([x_SD.to(x_TD.dtype), x_TD]).index_select(0, moved(self._order_J, x_TD.device))

    def positions(self, positions_S3: Tensor, positions_T3: Tensor) -> Tensor:
        """(J, 3) positions of both, those of a target behind those of its source."""
        first_N = behind(positions_S3, self._sources)
        shifted_T3 = positions_T3 + first_N.index_select(0, moved(self._owners_T, first_N.device)).unsqueeze(1)
        both = torch.cat([positions_S3.to(shifted_T3.dtype), shifted_T3])
        return both.index_select(0, moved(self._order_J, both.device))

    def targets(self, x_JD: Tensor) -> Tensor:
        """(T, D) the rows of targets."""
        return x_JD.index_select(0, moved(self._targets_T, x_JD.device))

    def tap(self, tap: Tap) -> Tap:
        """A tap of target rows as one of joint rows."""

        def joint(x_JD: Tensor) -> Tensor | None:
            added_TD = tap(self.targets(x_JD))
            if added_TD is None:
                return None
            places = moved(self._targets_T, x_JD.device)
            return torch.zeros_like(x_JD).index_copy(0, places, added_TD.to(x_JD.dtype))

        return joint


def behind(positions_S3: Tensor, lengths: Sequence[int]) -> Tensor:
    """(N,) the first position behind each source: its largest one + 1, 0 where it has no rows."""
    counts = torch.tensor(list(lengths), dtype=torch.long)
    owner_S = moved(torch.arange(len(counts)).repeat_interleave(counts), positions_S3.device)
    first_N = positions_S3.new_zeros(len(counts))
    return first_N.scatter_reduce(0, owner_S, positions_S3.amax(1) + 1, "amax") if len(owner_S) else first_N


class Prefill:
    """What a block asks of a cache (`StepCache`) while all rows of the sources go through it at once.

    Args:
        cache: Takes their keys and values.
        lengths: Rows of each source.
    """

    def __init__(self, cache: DecodeCache, lengths: Sequence[int], backend: str | None) -> None:
        self._cache = cache
        self._parts = Parts(lengths, sum(lengths), backend)
        self._last: tuple[Tensor, Tensor] | None = None

    def write(self, layer: int, k_SGC: Tensor, v_SGC: Tensor) -> None:
        """Hands keys and values on."""
        self._cache.fill(layer, k_SGC, v_SGC)
        self._last = k_SGC, v_SGC

    def attend(self, layer: int, q_SHC: Tensor, scaled: bool = False) -> Tensor:
        """(S, H, C): what each row reads from those before it in its source, and from itself."""
        if self._last is None or scaled:
            raise ShapeError("prefix: a block asks before it writes, or scales its queries itself")
        return attend_parts(q_SHC, *self._last, self._parts)

    def read(self, layer: int, q_SHC: Tensor, scaled: bool = False) -> Tensor:
        """Zeros: there is no encoder."""
        return torch.zeros_like(q_SHC)
