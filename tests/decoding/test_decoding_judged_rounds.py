"""Mask-predict with a judge: how it chooses among candidates, and when a picture is done."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch

from ofasys_lite.decoding.mask_predict import mask_predict
from ofasys_lite.decoding.options import DecodeOptions


def written(
    scores: Any, hidden: torch.Tensor, options: DecodeOptions, judged: bool = True
) -> tuple[Any, list[torch.Tensor], list[torch.Tensor]]:
    """(what mask-predict made, samples of each pass, what was scored): codes are drawn evenly, `scores` judges them."""
    asked: list[torch.Tensor] = []
    seen: list[torch.Tensor] = []

    def write(samples: torch.Tensor, codes: torch.Tensor, hides: torch.Tensor, choose: Any) -> torch.Tensor:
        asked.append(samples)
        return torch.stack([choose(k, torch.zeros(int(hides.sum()), 8)) for k in range(2)], -1)

    def judge(samples: torch.Tensor, codes: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
        assert torch.equal(written, hidden[samples])
        seen.append(codes.clone())
        return scores(len(seen), samples, codes)

    codes = torch.full((*hidden.shape, 2), 7)
    rngs = [np.random.default_rng(n) for n in range(len(hidden))]
    return mask_predict(write, codes, hidden, options, rngs, judge if judged else None), asked, seen


def half(samples: int = 2) -> torch.Tensor:
    hidden = torch.zeros(samples, 16, dtype=torch.bool)
    hidden[:, :12] = True
    return hidden


def low_codes(_: int, __: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    """A judge that likes small codes."""
    return -codes.float().sum((1, 2))


def test_the_best_candidate_of_each_round_goes_on() -> None:
    options = DecodeOptions("mask_predict", steps=3, candidates=4)
    found, asked, seen = written(low_codes, half(), options)
    assert (found.passes, found.judged) == (3, 3)
    assert [a.tolist() for a in asked] == [[0] * 4 + [1] * 4] * 3
    best = torch.stack([low_codes(0, asked[0], codes).view(2, 4) for codes in seen]).amax((0, 2))
    assert torch.equal(low_codes(0, asked[0], found.codes_NLK), best)
    for one, two in itertools.pairwise(seen):
        # what is kept of a round is of its best candidate, the same in all candidates of the next one
        chosen = one.view(2, 4, 16, 2)[torch.arange(2), low_codes(0, asked[0], one).view(2, 4).argmax(1)]
        same = (two.view(2, 4, 16, 2) == chosen.unsqueeze(1)).all(-1).all(1)
        assert (same.sum(1) >= 16 - 10).all()


def test_more_candidates_please_the_judge_more() -> None:
    scores = []
    for count in (1, 8):
        options = DecodeOptions("mask_predict", steps=2, candidates=count, patience=9)
        scores.append(low_codes(0, torch.zeros(0), written(low_codes, half(20), options)[0].codes_NLK).mean())
    assert scores[1] > scores[0] + 5


def test_given_codes_are_not_touched_whatever_judges_say() -> None:
    hidden = half()
    found, _, seen = written(low_codes, hidden, DecodeOptions("mask_predict", steps=4, candidates=3, patience=1))
    assert (found.codes_NLK[~hidden] == 7).all()
    assert all((codes.view(-1, 16, 2)[:, 12:] == 7).all() for codes in seen)
    assert (found.codes_NLK[hidden] < 7).any()


def test_a_picture_is_done_when_its_best_score_has_not_risen_for_a_while() -> None:
    # scores by round: sample 0 rises until round 2, sample 1 always
    rises = {0: [1, 2, 2, 1, 9, 9, 9, 9], 1: [1, 2, 3, 4, 5, 6, 7, 8]}

    def scores(call: int, samples: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return torch.tensor([float(rises[n][call - 1]) for n in samples.tolist()])

    for patience, rounds in ((1, [3, 8]), (2, [4, 8]), (3, [8, 8]), (0, [8, 8])):
        options = DecodeOptions("mask_predict", steps=8, patience=patience)
        found, asked, seen = written(scores, half(), options)
        assert found.rounds_N.tolist() == rounds
        assert [len(a) for a in asked] == [2] * rounds[0] + [1] * (8 - rounds[0])
        # the filling of the best round comes out
        best = 2 if rounds[0] < 8 else 5
        assert torch.equal(found.codes_NLK[0], seen[best - 1][0])
        assert torch.equal(found.codes_NLK[1], seen[-1][-1])
        assert bool(torch.isfinite(found.score_N).all())


def test_without_judge_the_last_round_comes_out_and_nothing_is_scored() -> None:
    found, asked, seen = written(low_codes, half(), DecodeOptions("mask_predict", steps=3), judged=False)
    assert (found.passes, found.judged, seen) == (3, 0, [])
    assert [a.tolist() for a in asked] == [[0, 1]] * 3
