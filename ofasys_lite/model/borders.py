"""Where the sequences of two flat streams begin and end.

Lengths are plain ints on the host; what a device kernel needs of them is made once per pack and kept for all layers.
Shape suffixes: N sequences, Q rows of the query stream, K rows of the key stream.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from ofasys_lite.errors import CardError, ShapeError, did_you_mean
from ofasys_lite.model.transfer import moved

BACKENDS = ("reference", "exact", "sdpa", "padded", "varlen")

# So many sequences of equal lengths, queries and keys together at most so long, go through one product together:
# gathering their rows then costs less than calls of their own.
GROUP_COUNT = 4
GROUP_LIMIT = 32


@dataclass(frozen=True, slots=True)
class LengthGroup:
    """Sequences of equal lengths that go through one batched product.

    Attributes:
        q_length: Rows of each query sequence, at least 1.
        q_rows: Where they stand in the query stream: a slice for one sequence, an index for several.
        k_rows: The same in the key stream.
    """

    count: int
    q_length: int
    q_rows: slice | Tensor
    k_rows: slice | Tensor


class Borders:
    """The lengths of N query sequences and their N key sequences, laid end to end in two flat streams.

    Attributes:
        k_lengths: Rows of the key sequence each of them sees; 0 gives zeros.
        causal: Whether row i of a sequence sees only keys 0 to i of it.
        backend: Forced back-end, or None to choose by device and type.
        covers_all: Whether every row of both streams is in one of the `pieces`.
    """

    def __init__(
        self, q_lengths: Sequence[int], k_lengths: Sequence[int], causal: bool = False, backend: str | None = None
    ) -> None:
        self.q_lengths = tuple(q_lengths)
        self.k_lengths = tuple(k_lengths)
        self.causal = causal
        self.backend = backend
        if backend is not None and backend not in BACKENDS:
            raise CardError(f"attention back-end `{backend}` is not known", help=did_you_mean(backend, BACKENDS))
        if len(self.q_lengths) != len(self.k_lengths):
            raise ShapeError(
                f"attention: {len(self.q_lengths)} query sequences and {len(self.k_lengths)} key sequences",
                help="give one key length, 0 if there are no keys, per query sequence",
            )
        if any(n < 0 for n in self.q_lengths + self.k_lengths):
            raise ShapeError("attention: a sequence has a negative length")
        if causal and self.q_lengths != self.k_lengths:
            raise ShapeError("attention: causal sequences need as many keys as queries")
        self.q_rows = sum(self.q_lengths)
        self.k_rows = sum(self.k_lengths)
        self.covers_all = all((q > 0) == (k > 0) for q, k in zip(self.q_lengths, self.k_lengths, strict=True))
        self.longest_q = max(self.q_lengths, default=0)
        self.longest_k = max(self.k_lengths, default=0)
        self._on_device: dict[tuple[str, torch.device], Tensor] = {}

    @cached_property
    def empty_keys(self) -> bool:
        """Whether some sequence has queries and no keys."""
        return any(q and not k for q, k in zip(self.q_lengths, self.k_lengths, strict=True))

    @cached_property
    def pieces(self) -> list[LengthGroup]:
        """All sequences that have queries and keys; short ones of equal lengths together."""
        same: dict[tuple[int, int], list[tuple[int, int]]] = {}
        pieces: list[LengthGroup] = []
        starts = zip(accumulate(self.q_lengths, initial=0), accumulate(self.k_lengths, initial=0), strict=True)
        for q, k, (q_start, k_start) in zip(self.q_lengths, self.k_lengths, starts, strict=False):
            if q and k and q + k <= GROUP_LIMIT:
                same.setdefault((q, k), []).append((q_start, k_start))
            elif q and k:
                pieces.append(LengthGroup(1, q, slice(q_start, q_start + q), slice(k_start, k_start + k)))
        for (q, k), at in same.items():
            for part in [at] if len(at) >= GROUP_COUNT else [[pair] for pair in at]:
                q_rows, k_rows = (_rows([pair[i] for pair in part], (q, k)[i]) for i in (0, 1))
                pieces.append(LengthGroup(len(part), q, q_rows, k_rows))
        return pieces

    @cached_property
    def with_keys(self) -> Borders:
        """The same without the sequences that have no keys; its query rows are those of `rows_with_keys`."""
        kept = [(q, k) for q, k in zip(self.q_lengths, self.k_lengths, strict=True) if k]
        return Borders([q for q, _ in kept], [k for _, k in kept], self.causal, self.backend)

    def check(self, q_rows: int, k_rows: int) -> None:
        """Raises ShapeError unless the streams have as many rows as the lengths add up to."""
        for what, rows, counted in (("query", q_rows, self.q_rows), ("key", k_rows, self.k_rows)):
            if rows != counted:
                raise ShapeError(f"attention: {rows} {what} rows, the lengths add up to {counted}")

    def rows_with_keys(self, device: torch.device) -> Tensor:
        """Rows of the query stream whose sequence has keys, as an index on `device`."""
        return self._keep("rows_with_keys", device, self._rows_with_keys)

    def offsets(self, side: str, device: torch.device) -> Tensor:
        """Start of each sequence of side `q` or `k`, and the end of the last: (N + 1,) int32 on `device`."""
        return self._keep(f"offsets_{side}", device, lambda: torch.tensor(self._starts(side), dtype=torch.int32))

    def slots(self, side: str, device: torch.device) -> Tensor:
        """Where each row of side `q` or `k` stands in an (N, longest) grid: an index of its rows on `device`."""
        longest = self.longest_q if side == "q" else self.longest_k
        return self._keep(f"slots_{side}", device, lambda: self._slots(side, longest))

    def mask(self, device: torch.device) -> Tensor:
        """True where a query may look at a key in (N, longest q, longest k) grids; all False in empty rows."""
        return self._keep("mask", device, lambda: self._mask(device))

    def _keep(self, name: str, device: torch.device, make: Callable[[], Tensor]) -> Tensor:
        found = self._on_device.get((name, device))
        if found is None:
            found = self._on_device[name, device] = moved(make(), device)
        return found

    def _lengths(self, side: str) -> tuple[int, ...]:
        return self.q_lengths if side == "q" else self.k_lengths

    def _starts(self, side: str) -> list[int]:
        return [0, *accumulate(self._lengths(side))]

    def _slots(self, side: str, longest: int) -> Tensor:
        lengths = torch.tensor(self._lengths(side), dtype=torch.long)
        starts = torch.tensor(self._starts(side)[:-1], dtype=torch.long)
        shift = torch.arange(len(lengths)) * longest - starts
        return torch.arange(int(lengths.sum())) + shift.repeat_interleave(lengths)

    def _rows_with_keys(self) -> Tensor:
        kept = torch.tensor([k > 0 for k in self.k_lengths], dtype=torch.bool)
        return kept.repeat_interleave(torch.tensor(self.q_lengths, dtype=torch.long)).nonzero().flatten()

    def _mask(self, device: torch.device) -> Tensor:
        # made on the device: only the lengths travel
        q_N1, k_N1 = (moved(torch.tensor(self._lengths(s), dtype=torch.long), device).unsqueeze(1) for s in ("q", "k"))
        row_q, row_k = (torch.arange(longest, device=device) for longest in (self.longest_q, self.longest_k))
        mask_NQK = (row_q < q_N1).unsqueeze(2) & (row_k < k_N1).unsqueeze(1)
        return mask_NQK & (row_q.unsqueeze(1) >= row_k) if self.causal else mask_NQK


class Parts:
    """The borders of a stream whose parts lie end to end: causal sequences first, then the others.

    A class without fields that torch.compile knows: a graph that looked into a tuple of borders would be made anew for
    other lengths.
    """

    def __init__(self, lengths: Sequence[int], causal_rows: int, backend: str | None = None) -> None:
        count, rows = 0, 0
        while count < len(lengths) and rows < causal_rows:
            rows += lengths[count]
            count += 1
        if rows != causal_rows:
            raise ShapeError(f"{causal_rows} causal rows end inside of a sequence", help="count whole sequences")
        halves = ((lengths[:count], True), (lengths[count:], False))
        each = [Borders(part, part, causal, backend) for part, causal in halves if len(part)]
        self.each = tuple(each) or (Borders((), (), True, backend),)


def _rows(starts: list[int], length: int) -> slice | Tensor:
    """Rows of sequences of one length: a slice where they lie side by side, else an index."""
    if all(b - a == length for a, b in pairwise(starts)):
        return slice(starts[0], starts[-1] + length)
    return (torch.tensor(starts).unsqueeze(1) + torch.arange(length)).flatten()
