"""Beams that score as weights of others were searched: an end counts only where it is among the best candidates."""

import torch
from decoding_sessions import toy

from ofasys_lite.decoding.automaton import compile
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.decoding.search import decode
from ofasys_lite.plan.constraints import Free

START, CLOSE, WIDTH, MOST, LEAST, SIZE = 1, 2, 3, 6, 1, 7


def by_hand(seed: int) -> list[tuple[list[int], float]]:
    """What fairseq's search finds: twice the width are ranked, ends within the width are kept, others fall."""
    live, ended = [([START], 0.0, toy(seed, 1, size=SIZE).h_BD)], list[tuple[list[int], float]]()
    model = toy(seed, 1, size=SIZE).model
    for place in range(MOST + 1):
        ranked = []
        for ids, total, h_BD in live:
            h_BD = model.step(h_BD, torch.tensor([ids[-1]]), torch.full((1, 3), place))
            log = (h_BD @ model.head.T).log_softmax(-1)[0]
            legal = [CLOSE] if place == MOST else [i for i in range(SIZE) if i >= CLOSE + (place < LEAST)]
            ranked += [(total + float(log[i]), [*ids, i], h_BD) for i in legal]
        ranked.sort(key=lambda each: -each[0])
        live = []
        for rank, (total, ids, h_BD) in enumerate(ranked[: 2 * WIDTH]):
            if ids[-1] != CLOSE and len(live) < WIDTH:
                live.append((ids, total, h_BD))
            elif ids[-1] == CLOSE and rank < WIDTH and len(ended) < WIDTH:
                ended.append((ids[1:], total))
        if len(ended) == WIDTH:
            break
    return sorted(ended, key=lambda each: -each[1])


@torch.no_grad()
def test_ends_are_fairseqs_hypothesis_by_hypothesis() -> None:
    automaton = compile(Free(CLOSE + 1, SIZE, LEAST, MOST, CLOSE, ()))
    options = DecodeOptions("beam", beam=WIDTH, n_best=WIDTH, renormalize=False, length_penalty=0.0)
    for seed in range(40):
        wanted = by_hand(seed)
        (found,) = decode(toy(seed, 1, size=SIZE), [automaton], options, start=START)
        assert [list(each.ids) for each in found.n_best] == [ids for ids, _ in wanted], seed
        assert all(abs(a.score - b) < 1e-4 for a, (_, b) in zip(found.n_best, wanted, strict=True))
