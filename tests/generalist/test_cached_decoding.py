"""Decoding with a cache is decoding without one; outputs stay within what the line allows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
import tiny_worlds as worlds
import torch

from ofasys_lite.data.permutation import sample_rng
from ofasys_lite.decoding.automaton import compile
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.decoding.search import Hypothesis, decode
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.network import Network, NetworkSession
from ofasys_lite.generalist.predicting import predict
from ofasys_lite.generalist.prediction import Request
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.pack import Stream
from ofasys_lite.layout.ready import Ready, ReadyTask


class UncachedSession:
    """A session without a cache: everything is computed again at each step."""

    def __init__(self, network: Network, source: Stream, states_SD: torch.Tensor) -> None:
        self.network, self.source, self.states_SD = network, source, states_SD
        self.rows: list[tuple[int, list[int], list[list[int]]]] = [(n, [], []) for n in range(len(source.lengths))]

    def advance(self, ids_B: torch.Tensor, positions_B3: torch.Tensor) -> torch.Tensor:
        last = []
        starts = [sum(self.source.lengths[:n]) for n in range(len(self.source.lengths))]
        for number, (source, ids, positions) in enumerate(self.rows):
            ids.append(int(ids_B[number]))
            positions.append(positions_B3[number].tolist())
            length = self.source.lengths[source]
            span = slice(starts[source], starts[source] + length)
            states = self.network.body.decode(
                self.network.text.lookup(torch.tensor(ids)),
                torch.tensor(positions),
                self.states_SD[span],
                self.source.positions_S3[span],
                lengths=(len(ids),),
                cross_lengths=((len(ids), length),),
            )
            last.append(states[-1])
        return torch.stack(last)

    def scores(self, states_BD: torch.Tensor, ids_W: torch.Tensor | None) -> torch.Tensor:
        return self.network.text.scores(states_BD, ids_W).float()

    def select(self, rows: torch.Tensor) -> None:
        self.rows = [(source, list(ids), list(at)) for source, ids, at in (self.rows[r] for r in rows.tolist())]


@pytest.fixture(scope="module")
def prepared() -> Ready:
    """All tasks of the tiny world."""
    return worlds.ready(worlds.tasks())


@pytest.fixture(scope="module")
def model(prepared: Ready) -> Generalist:
    """An untrained model for them, large enough weights that its choices differ."""
    found = worlds.generalist(prepared, encoder_layers=2, decoder_layers=2)
    found.network.eval()
    return found


@torch.inference_mode()
def decoded(
    model: Generalist, tasks: Sequence[ReadyTask], options: DecodeOptions, kind: Any, target: int = 0
) -> list[Hypothesis]:
    """Two samples of every task, all in one batch."""
    examples, automata = [], []
    for task in tasks:
        for number in (0, 1):
            source = task.sources["train"]
            row, id = source.row(number), source.ids(number)
            examples.append(task.maker.source(row, id, sample_rng(0, task.card.name, id, 0)))
            automata.append(compile(task.maker.constraint(target, row)))
    batch = to_device(collate(examples), torch.device("cpu"))
    states_SD = model.network.encode(batch.source)
    return decode(kind(model.network, batch.source, states_SD), automata, options)


@pytest.mark.parametrize(
    "options",
    [
        DecodeOptions(max_length=12),
        DecodeOptions(method="beam", beam=4, n_best=4, max_length=10),
        DecodeOptions(method="beam", beam=3, length_penalty=0.0, no_repeat_ngram=2, max_length=10),
        DecodeOptions(method="sample", top_k=20, top_p=0.9, temperature=0.7, max_length=12, seed=3),
    ],
    ids=["greedy", "beam", "beam-ngram", "sample"],
)
def test_cached_decoding_of_all_modalities_equals_uncached(
    prepared: Ready, model: Generalist, options: DecodeOptions
) -> None:
    cached = decoded(model, prepared.tasks, options, NetworkSession)
    plain = decoded(model, prepared.tasks, options, UncachedSession)
    assert [h.ids for h in cached] == [h.ids for h in plain]
    assert [h.score for h in cached] == pytest.approx([h.score for h in plain], abs=1e-4)
    assert [[n.ids for n in h.n_best] for h in cached] == [[n.ids for n in h.n_best] for h in plain]


def requests(prepared: Ready, name: str, count: int, options: DecodeOptions) -> list[Request]:
    """`count` samples of a task."""
    source = next(t for t in prepared.tasks if t.card.name == name).sources["train"]
    return [Request(name, source.row(n % len(source)), f"{n}", options) for n in range(count)]


@pytest.mark.parametrize("method", ["greedy", "beam", "sample"])
def test_a_closed_set_is_never_left(prepared: Ready, model: Generalist, method: str) -> None:
    options = DecodeOptions(method=method, beam=4 if method == "beam" else 1)
    count = 8 if method == "beam" else 24
    for name, column in (("region", "label"), ("next", "item"), ("both", "label")):
        allowed = set(worlds.LABELS if column == "label" else worlds.WORDS)
        for found in predict(model, requests(prepared, name, count, options)):
            assert found is not None
            assert found.values[column] in allowed
    for found in predict(model, requests(prepared, "detect", count, options)):
        assert found is not None
        for record in found.values["objects"]:
            assert record["label"] in worlds.LABELS
            assert len(record["box"]) == 4


def test_1000_of_1000_records_of_an_untrained_model_parse(prepared: Ready, model: Generalist) -> None:
    parsed = 0
    for seed in range(4):
        options = DecodeOptions(method="sample", seed=seed, max_length=60)
        for found in predict(model, requests(prepared, "record", 250, options)):
            assert found is not None
            value = found.values["record"]
            assert not isinstance(value, bytes)
            json.loads(json.dumps(value, allow_nan=False))
            parsed += 1
    assert parsed == 1000


def test_a_prediction_does_not_depend_on_what_it_is_batched_with(prepared: Ready, model: Generalist) -> None:
    options = DecodeOptions(method="sample", max_length=10, seed=1)
    wanted = requests(prepared, "caption", 3, options)
    others = [r for t in worlds.LINES for r in requests(prepared, t, 2, options)]
    together = predict(model, [*wanted, *others])[:3]
    alone = [predict(model, [r])[0] for r in wanted]
    assert [p.values for p in together if p] == [p.values for p in alone if p]


def test_the_second_target_is_decoded_from_the_same_source(prepared: Ready, model: Generalist) -> None:
    found = predict(model, requests(prepared, "both", 2, DecodeOptions(max_length=6)))
    assert all(p is not None and set(p.values) == {"cap", "label"} for p in found)


def test_no_loss_words_are_forced_and_stay_out_of_the_values(prepared: Ready, model: Generalist) -> None:
    [found] = predict(model, requests(prepared, "both", 1, DecodeOptions(max_length=20)))
    assert found is not None
    assert "text" not in found.values
