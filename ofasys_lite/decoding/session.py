"""What search needs of a model: a step function.

Shapes: B live rows, D width, V vocabulary, W ids asked for, R rows of codes, K depth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor


@dataclass(slots=True)
class CodeStep:
    """Codes with depth in one step, by the name of the adapter that reads and writes them.

    Attributes:
        fed: Live rows whose last element was a position of codes: (rows (R,), codes (R, K), its place (R,)).
        shown: Live rows whose last element was a row that is shown: (rows (R,), numbers of their samples (R,), numbers
            of what was fed among the rows that their targets show (R,)).
        write: Live rows that write a position in this step: (rows (R,), what draws the codes of one depth).
        written: What they wrote, (R, K); the session fills it.
    """

    fed: dict[str, tuple[Tensor, Tensor, Tensor]] = field(default_factory=dict)
    shown: tuple[Tensor, Tensor, Tensor] | None = None
    write: dict[str, tuple[Tensor, Callable[[int, Tensor], Tensor]]] = field(default_factory=dict)
    written: dict[str, Tensor] = field(default_factory=dict)


class Session(Protocol):
    """A model with its caches, as search sees it: live rows that are fed one element at a time.

    At first there is one live row per sample; a guided sample has a second one behind it, of its emptied source. Keys
    of a sample's source are shared by all of its rows.
    """

    def advance(self, ids_B: Tensor, positions_B3: Tensor, codes: CodeStep | None = None) -> Tensor:
        """States (B, D) behind one more element per live row: what is fed (at first `<start>`) stands at the position
        of the element that the state then predicts. Rows that `codes` names are fed codes, and write codes."""

    def scores(self, states_BD: Tensor, ids_W: Tensor | None) -> Tensor:
        """Scores (B, V), or (B, W) of the given ids only, before softmax; a fresh tensor, which search writes into."""

    def vectors(self, ids_W: Tensor) -> Tensor:
        """What stands for ids, (W, D): like ones are near each other. Asked where lists are to be diverse."""

    def select(self, rows: Tensor) -> None:
        """Makes row i the continuation of row `rows[i]`; there may be more rows (beams) or fewer (finished)."""
