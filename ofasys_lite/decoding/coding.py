"""Positions of codes with depth, and rows that are shown, within one step of search: what rows are fed, what they
write, what it cost.

Shapes: R live rows that are fed or write codes, K depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from ofasys_lite.decoding.automaton import State
from ofasys_lite.decoding.depth_sampling import RowChoice, RowsChoice
from ofasys_lite.decoding.nodes import CodesNode, ShownNode
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.decoding.session import CodeStep
from ofasys_lite.model import moved


class Row(Protocol):
    """What a row of the search tells of itself."""

    sample: int
    state: State
    ids: list[int]
    wrote: CodesNode | ShownNode | None


def row_choice(options: DecodeOptions, rng: np.random.Generator | None, depth: int, share: float) -> RowChoice:
    """How a sample with these options draws the codes of one position, when `share` of its codes is written."""
    cfg = options.cfg_at(share)
    if options.method == "greedy" or rng is None:
        return RowChoice(cfg, paired=options.guided)
    draws = tuple(rng.random(depth).tolist())
    return RowChoice(cfg, options.temperature, options.top_k, options.top_p, draws, paired=options.guided)


@dataclass(slots=True)
class Coding:
    """The codes of one step.

    Attributes:
        step: What the session is told.
    """

    step: CodeStep
    _writers: dict[str, tuple[list[int], list[CodesNode], RowsChoice]] = field(default_factory=dict)

    @staticmethod
    def of(
        settings: Sequence[tuple[DecodeOptions, np.random.Generator | None]],
        rows: Sequence[Row],
        firsts: Sequence[int],
        device: torch.device | str,
    ) -> Coding | None:
        """The codes that `rows` are fed and write, and what they are shown; None where there is nothing of it.

        Args:
            settings: Options and generator of each row's sample.
            rows: Rows of the search.
            firsts: The first live row of each.
            device: Where indices are made.
        """
        if not any(row.wrote is not None or isinstance(row.state.node, CodesNode) for row in rows):
            return None
        fed: dict[str, list[tuple[int, tuple[int, ...], int]]] = {}
        shown: list[tuple[int, int, int]] = []
        write: dict[str, list[tuple[int, CodesNode, RowChoice]]] = {}
        for number, (row, (options, rng)) in enumerate(zip(rows, settings, strict=True)):
            node = row.state.node
            live = range(firsts[number], firsts[number] + (2 if options.guided else 1))
            if isinstance(row.wrote, ShownNode):
                shown.extend((i, row.sample, row.wrote.row) for i in live)
            elif row.wrote is not None:
                codes = row.wrote.codes.unpack(row.ids[-1])
                fed.setdefault(row.wrote.codes.adapter, []).extend((i, codes, row.wrote.place) for i in live)
            if isinstance(node, CodesNode):
                choice = row_choice(options, rng, node.codes.depth, node.place / len(node.codes.positions))
                known = node.codes.given[node.place] if node.codes.given else -1
                if known >= 0:
                    choice = RowChoice(given=node.codes.unpack(known), paired=options.guided)
                write.setdefault(node.codes.adapter, []).append((number, node, choice))
        coding = Coding(CodeStep())
        for name, found in fed.items():
            places, codes_RK, at = zip(*found, strict=True)
            coding.step.fed[name] = tuple(moved(torch.tensor(x), device) for x in (places, codes_RK, at))  # type: ignore[assignment]
        if shown:
            coding.step.shown = tuple(moved(torch.tensor(x), device) for x in zip(*shown, strict=True))  # type: ignore[assignment]
        for name, chosen in write.items():
            numbers, nodes, choices = (list(x) for x in zip(*chosen, strict=True))
            choose = RowsChoice(choices, device)
            live_R = [firsts[n] + j for n, c in zip(numbers, choices, strict=True) for j in range(c.rows)]
            coding._writers[name] = (numbers, nodes, choose)
            coding.step.write[name] = (moved(torch.tensor(live_R), device), choose)
        return coding

    def written(self) -> dict[int, tuple[int, float]]:
        """Row of the search -> (element, log probability) of the position it wrote; a given one costs nothing."""
        found: dict[int, tuple[int, float]] = {}
        for name, (numbers, nodes, choose) in self._writers.items():
            codes = self.step.written[name].tolist()
            logs = choose.log_P.tolist()
            place = 0
            for number, node, choice, log in zip(numbers, nodes, choose.rows, logs, strict=True):
                found[number] = (node.codes.pack(codes[place]), 0.0 if choice.given else log)
                place += choice.rows
        return found

    def given(self) -> set[int]:
        """Rows of the search whose position was known."""
        every = (
            (n, c) for numbers, _, choose in self._writers.values() for n, c in zip(numbers, choose.rows, strict=True)
        )
        return {number for number, choice in every if choice.given}
