"""Values in continuous rows, written row after row, each from those before it (`loss=frames`).

Shapes: N samples, B rows that are alive (two of a guided sample, its own and that of the emptied source), C numbers of
a row, D width, L most rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ofasys_lite.adapters.passes import Sources, ToWrite, Written
from ofasys_lite.errors import ShapeError
from ofasys_lite.plan.constraints import Whole


def follow(
    sources: Sources,
    asked: Sequence[ToWrite],
    fed: Callable[[Tensor], Tensor],
    written: Callable[[Tensor], Tensor],
    lengths: Callable[[Tensor], Tensor],
) -> list[Written]:
    """A value of each; it ends with the row at which the model holds it for likelier than not that no more follows.

    Args:
        fed: (B, C) rows -> (B, D) what the decoder reads of them.
        written: (B, D) states -> (B, C) the row that follows.
        lengths: (B, D) states -> (B, L) logits of how many rows there will be.
    """
    first, what = asked[0], asked[0].what
    if not isinstance(what, Whole) or sources.ids is None:
        raise ShapeError("rows that follow each other need a slot of continuous rows, and the model's own ids")
    about = dict(what.about)
    least, most = int(str(about.get("least", 1))), len(what.positions)
    ways = 2 if first.options.guided else 1
    cfg = first.options.cfg if ways == 2 else 1.0
    session = sources.session([each.sequences[way] for each in asked for way in range(ways)])
    positions_L3 = torch.tensor(what.positions, device=sources.states_SD.device)
    opening = torch.full((ways * len(asked),), sources.start, device=sources.states_SD.device)
    x_BD = sources.ids.lookup(opening)
    found: list[list[Tensor]] = [[] for _ in asked]
    alive = list(range(len(asked)))
    for place in range(most):
        states_BD = session(x_BD, positions_L3[place].expand(len(x_BD), -1))
        rows_NWC = written(states_BD).float().view(len(alive), ways, -1)
        rows_NC = rows_NWC[:, 0] if ways == 1 else cfg * rows_NWC[:, 0] + (1 - cfg) * rows_NWC[:, 1]
        for number, row_C in zip(alive, rows_NC, strict=True):
            found[number].append(row_C)
        over_N = lengths(states_BD[::ways]).float().softmax(-1)[:, : place + 1].sum(-1) >= 0.5
        goes_on = [i for i, over in enumerate(over_N.tolist()) if not over or place + 1 < least]
        if not goes_on:
            break
        if len(goes_on) < len(alive):
            alive = [alive[i] for i in goes_on]
            session.keep([ways * i + way for i in goes_on for way in range(ways)])
            rows_NC = rows_NC[goes_on]
        x_BD = fed(rows_NC.repeat_interleave(ways, 0))
    return [Written(torch.stack(rows).cpu().numpy()) for rows in found]
