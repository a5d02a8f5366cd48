"""`features=name`: a name's vector is its own row and the words of its name, so that names without a row are ranked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_worlds as worlds
import torch

from ofasys_lite.adapters.named_rows import NamedRows
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import Request, predict
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.preprocess.vocabulary import WORDS

NAMES = ("red sun", "red moon", "blue sun", "blue moon", "green sky")
LINE = "[CATEGORY:old,features=name] -> [CATEGORY:new,closed_set,features=name]"


def world(line: str = LINE) -> tuple[Any, Generalist]:
    rows = [{"id": str(i), "old": NAMES[i % 5], "new": NAMES[(i * 2 + 1) % 5]} for i in range(20)]
    found = worlds.ready([worlds.task("next", rows, line=line), worlds.task("caption")])
    return found, worlds.generalist(found)


def test_a_vector_is_the_own_row_and_the_mean_of_its_pieces() -> None:
    weight = torch.randn(12, 4)
    found = NamedRows(8, [[1, 2], [], [3]])(weight)
    torch.testing.assert_close(found[8], weight[8] + (weight[1] + weight[2]) / 2)
    torch.testing.assert_close(found[9:11], torch.stack([weight[9], weight[10] + weight[3]]))
    assert torch.equal(found[:8], weight[:8])
    assert torch.equal(found[11], weight[11])  # a row that was appended and is not known


def test_it_is_made_again_when_rows_move_and_kept_while_they_do_not() -> None:
    weight = torch.nn.Parameter(torch.randn(10, 4))
    named = NamedRows(8, [[1], [2]])
    with torch.no_grad():
        first = named(weight)
        assert named(weight) is first
        weight[1] += 1.0
        torch.testing.assert_close(named(weight)[8], weight[8] + weight[1])
    assert named(weight).requires_grad


def test_reading_writing_and_gradients_go_through_the_words() -> None:
    found, model = world()
    vocabulary, text = found.vocabulary, model.network.text
    assert vocabulary.find(WORDS) is not None
    id = vocabulary.find("=red sun")
    pieces = vocabulary.encode("red sun")
    weight = model.network.embedding.weight
    vector = weight[id] + weight[pieces].mean(0)
    torch.testing.assert_close(text.lookup(torch.tensor([id]))[0], vector * text.scale)
    states = torch.randn(2, weight.shape[1])
    torch.testing.assert_close(text.scores(states)[:, id], states @ vector * text.logit_scale)
    task = found.tasks[0]
    batch = collate([task.maker.example(task.sources["train"].row(0), "0", np.random.default_rng(0), True)])
    losses = model.network(to_device(batch, torch.device("cpu")))
    losses.values_U.sum().backward()
    assert weight.grad is not None
    assert weight.grad[pieces].abs().sum() > 0
    plain, _ = world(LINE.replace(",features=name", ""))
    assert plain.vocabulary.find(WORDS) is None
    assert "names" not in plain.adapters["text"][1]


def test_it_lives_in_an_export_and_names_that_were_never_trained_on_are_ranked(tmp_path: Path) -> None:
    found, model = world()
    model.save_pretrained(tmp_path / "m")
    again = Generalist.from_pretrained(tmp_path / "m", device="cpu")
    ids = torch.arange(len(found.vocabulary))
    with torch.no_grad():
        torch.testing.assert_close(again.network.text.lookup(ids), model.network.text.lookup(ids))
    before = len(again.vocabulary)
    answers = "'red sun','red sky','green moon'"
    line = f"[CATEGORY:old,features=name] -> [CATEGORY:new,closed_set=({answers}),features=name]"
    name = again.task_of_line(line)
    assert len(again.vocabulary) == before + 2
    options = DecodeOptions("beam", beam=3, n_best=3)
    (answer,) = predict(again, [Request(name, {"old": "red sun"}, options=options)])
    assert answer is not None
    assert {each.value for each in answer.n_best} == {"red sun", "red sky", "green moon"}
    assert all(each.score < 0 for each in answer.n_best)
    id = again.vocabulary.find("=red sky")
    weight = again.network.embedding.weight
    assert id is not None
    assert not weight[id].any()
    pieces = again.vocabulary.encode("red sky")
    torch.testing.assert_close(again.network.text.table[id], weight[pieces].mean(0))
    # what was learned stays as it is, and the learned task too
    with torch.no_grad():
        torch.testing.assert_close(again.network.text.lookup(ids), model.network.text.lookup(ids))
    assert again.task_of_line(line) == name


def test_a_model_that_learns_further_names_knows_their_words(tmp_path: Path) -> None:
    _, model = world()
    vocabulary = model.vocabulary.extended(["=pink star"])
    specs = dict(model.network.specs)
    grown = model.extended(vocabulary, specs, {}, {}, model.data)
    id, pieces = vocabulary.find("=pink star"), vocabulary.encode("pink star")
    weight = grown.network.embedding.weight
    torch.testing.assert_close(grown.network.text.table[id], weight[id] + weight[pieces].mean(0))
    assert grown.network.specs["text"].settings["names"]["pieces"][-1] == pieces


def test_training_with_it_is_packed_as_one_by_one() -> None:
    found, model = world(LINE.replace("new,", "new,loss=sampled_softmax(negatives=2),"))
    task = found.tasks[0]
    rows = [task.sources["train"].row(i) for i in range(6)]
    examples = [task.maker.example(row, str(i), np.random.default_rng(i), True) for i, row in enumerate(rows)]
    with torch.no_grad():
        together = model.network(to_device(collate(examples), torch.device("cpu"))).values_U
        alone = [model.network(to_device(collate([each]), torch.device("cpu"))).values_U for each in examples]
    torch.testing.assert_close(torch.cat(alone), together, rtol=1e-4, atol=1e-5)
    with pytest.raises(Exception, match="features"):
        world(LINE.replace("features=name", "features=title", 1))
