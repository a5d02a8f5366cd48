"""What a target is given by its row: pictures with `no_loss` right of the arrow, in groups too; candidates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_worlds as worlds
import torch

from ofasys_lite.cards import modalities
from ofasys_lite.decoding.automaton import compile
from ofasys_lite.decoding.nodes import ShownNode
from ofasys_lite.decoding.session import CodeStep
from ofasys_lite.errors import DataError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.network import NetworkSession
from ofasys_lite.generalist.predicting import Request, predict
from ofasys_lite.generalist.shown import ShownRows, taken
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.ready import DataSettings, Ready, make_ready
from ofasys_lite.plan.constraints import Shown
from ofasys_lite.preprocess.base import Piece
from ofasys_lite.preprocess.vocabulary import CONTROL_IDS

DATA = DataSettings(pieces=300, bins=32, modalities={"IMAGE": {"patch": 4, "widths": [8, 8]}})
BESIDE = "[TEXT:q,drop=0.1] -> see [IMAGE:img,no_loss] it is [TEXT:cap,max_length=8]"
PAGES = " -> ([IMAGE:img,no_loss] [TEXT:cap,max_length=6])*<over=pages>"
MIXED = "[TEXT:q] -> ([IMAGE:img,no_loss] | [TEXT:cap,max_length=6])*<over=parts,by=type>"
OWN = "[TEXT:q] -> ([TEXT:label,closed_set=@choices])*<over=pages>"
SHARED = "[TEXT:q] -> ([TEXT:label,closed_set=@labels])*<over=pages,max=4>"
#: A conversation as a group: one of its alternatives is read, the other one written.
TURNS = "[TEXT:q] -> ([TEXT:asked,no_loss] | [TEXT:said,max_length=6])*<over=turns,by=role(user=1,bot=2)>"
LISTS = "[TEXT:q] -> ([IMAGE:imgs,no_loss] [TEXT:caps,max_length=6])*"


def rows(count: int = 12) -> list[dict[str, Any]]:
    found = []
    for i in range(count):
        rng = np.random.default_rng(i)
        pictures = [rng.integers(0, 256, (8, 8 * (1 + n), 3)).astype(np.uint8) for n in range(1 + i % 3)]
        words = [worlds.WORDS[(i + n) % 6] for n in range(len(pictures))]
        labels = [worlds.LABELS[(i + n) % 3] for n in range(len(pictures))]
        pages = [
            {"img": p, "cap": f"a {w}", "label": label, "choices": [label, f"not {w}"]}
            for p, w, label in zip(pictures, words, labels, strict=True)
        ]
        parts = [x for p in pages for x in ({"type": "image", "img": p["img"]}, {"type": "text", "cap": p["cap"]})]
        found.append(
            {
                "id": str(i),
                "q": f"tell {words[0]}",
                "img": pictures[0],
                "cap": f"a {words[0]}",
                "pages": pages,
                "parts": parts,
                "labels": list(worlds.LABELS),
                "imgs": pictures,
                "turns": [
                    t
                    for p in pages
                    for t in ({"role": "user", "asked": f"{p['cap']}?"}, {"role": "bot", "said": p["label"]})
                ],
                "caps": [p["cap"] for p in pages],
            }
        )
    return found


def prepared(*lines: str) -> Ready:
    held = {"train": rows(), "valid": rows(4), "test": rows(4)}
    return make_ready([worlds.task(f"t{i}", held, line=line) for i, line in enumerate(lines)], modalities(), DATA)


def written(model: Generalist, row: dict[str, Any], task: str = "t0", **options: Any) -> dict[str, Any]:
    (found,) = predict(model, [Request(task, row, row["id"], model.entry(task).options(**options))])
    assert found is not None
    return dict(found.values)


@pytest.mark.parametrize("line", [BESIDE, PAGES, MIXED, LISTS, OWN, SHARED, TURNS])
def test_packed_and_one_by_one_is_the_same(line: str) -> None:
    ready = prepared(line)
    model = worlds.generalist(ready)
    one, many = (worlds.gradients(model, ready.tasks[0], rows(6), p) for p in ([range(6)], [[i] for i in range(6)]))
    assert one.keys() == many.keys()
    for name, value in one.items():
        torch.testing.assert_close(many[name], value, rtol=3e-4, atol=3e-6, msg=name)


def test_of_a_group_that_the_row_gives_only_what_is_written_is_learned() -> None:
    (task,) = prepared(TURNS).tasks
    vocabulary, row = task.maker.vocabulary, rows()[2]
    example = task.maker.example(row, "2", None, False)
    wanted = list[int]()
    for turn in row["turns"]:
        wanted += [*vocabulary.encode(turn["said"]), CONTROL_IDS["close"]] if turn["role"] == "bot" else []
    np.testing.assert_array_equal(worlds.labels(collate([example])), wanted)
    ids = [int(i) for piece in example.targets[0].pieces for i in piece.arrays["ids"]]
    automaton = compile(task.maker.constraint(0, row))
    states = automaton.walk(ids)
    assert automaton.accepts(ids)
    # what is learned is what decoding may choose
    chosen = [id for id, state in zip(ids, states, strict=False) if automaton.choices(state)]
    assert chosen == wanted
    found = task.maker.values(0, automaton.split(ids), row)["turns"]
    assert [turn.get("said") for turn in found] == [turn.get("said") for turn in row["turns"]]
    assert [turn["role"] for turn in found] == ["user", "bot"] * (len(found) // 2)


def test_a_group_of_turns_is_written_behind_what_is_asked() -> None:
    model = worlds.generalist(prepared(TURNS))
    (row,) = rows(1)
    asked = [turn if turn["role"] == "user" else {"role": "bot"} for turn in row["turns"]]
    found = written(model, {**row, "turns": asked})["turns"]
    assert [turn["role"] for turn in found] == [turn["role"] for turn in asked]
    assert all("said" in turn for turn in found if turn["role"] == "bot")


def test_the_decoder_reads_the_picture_and_nothing_of_it_is_learned() -> None:
    ready = prepared(BESIDE)
    model, (task,) = worlds.generalist(ready), ready.tasks
    batch = collate([task.maker.example(rows()[0], "0", None, False)])
    (learned,) = batch.losses
    cells = next(part for part in batch.target.parts if part.adapter == "image")
    assert cells.counts == (1,)
    assert len(learned.rows_R) < len(batch.target.positions_S3) - 1
    model.network(to_device(batch, torch.device("cpu"))).values_U.sum().backward()
    moved = [n for n, p in model.network.named_parameters() if "image" in n and p.grad is not None and p.grad.any()]
    assert moved


@pytest.mark.parametrize("line", [BESIDE, PAGES, MIXED])
def test_decoding_walks_the_rows_of_training(line: str) -> None:
    """Teacher forced through the cache, step by step, the states are those of one pass over the whole target."""
    ready = prepared(line)
    model, (task,) = worlds.generalist(ready), ready.tasks
    network = model.network.eval()
    for row in rows(3):
        example = task.maker.example(row, row["id"], None, False)
        batch = to_device(collate([example]), torch.device("cpu"))
        pieces = list[Piece]()
        automaton = compile(taken(task.maker.constraint(0, row), pieces))
        ids = np.concatenate([p.arrays["ids"] if p.tokens else np.full(p.count, 0) for p in example.targets[0].pieces])
        with torch.inference_mode():
            states_SD = network.encode(batch.source)
            whole_TD = network.decode(batch, states_SD)
            shown = ShownRows.of_pieces(network.embed, [pieces], torch.device("cpu"))
            session = NetworkSession(network, batch.source, states_SD, None, shown)
            state, fed, before = automaton.start, CONTROL_IDS["start"], None
            for place, id in enumerate(ids):
                # a row that is shown has its own element
                element = automaton.allowed(state).single if isinstance(state.node, ShownNode) else int(id)
                step = CodeStep()
                if isinstance(before, ShownNode):
                    step.shown = (torch.tensor([0]), torch.tensor([0]), torch.tensor([before.row]))
                at = torch.tensor([automaton.position(state)])
                assert at[0].tolist() == batch.target.positions_S3[place].tolist()
                found = session.advance(torch.tensor([fed]), at, step if step.shown is not None else None)
                torch.testing.assert_close(found[0], whole_TD[place], rtol=2e-4, atol=2e-4)
                before, fed = state.node, element
                state = automaton.step(state, element)
            assert automaton.done(state)


def test_what_is_written_depends_on_the_picture_and_not_on_what_it_is_written_with() -> None:
    model = worlds.generalist(prepared(BESIDE))
    row = rows()[0]
    own = written(model, row)
    assert set(own) == {"cap"}
    requests = [Request("t0", each, each["id"], model.entry("t0").options()) for each in rows(6)]
    together = predict(model, requests)
    assert [each.values for each in together if each is not None] == [written(model, each) for each in rows(6)]
    guided = written(model, row, method="beam", beam=3)
    assert set(guided) == {"cap"}
    others = [{**row, "img": np.full((8, 8, 3), 60 * n, np.uint8)} for n in range(3)]
    found = predict(model, [Request("t0", each, "0", model.entry("t0").options()) for each in (row, *others)])
    assert len({each.score for each in found if each is not None}) == 4


def test_a_long_picture_takes_nothing_from_max_length() -> None:
    model = worlds.generalist(prepared(BESIDE))
    wide = {**rows()[0], "img": np.zeros((8, 320, 3), np.uint8)}
    plan = model.maker("t0").constraint(0, wide)
    pieces = list[Piece]()
    assert compile(taken(plan, pieces)).given == 40
    assert [piece.count for piece in pieces] == [40]
    long = written(model, wide, min_length=6, max_length=30)["cap"]
    assert len(long) > 0


def test_a_group_has_the_elements_of_its_records() -> None:
    model = worlds.generalist(prepared(PAGES, MIXED, LISTS))
    for row in rows(4):
        pages = written(model, row, "t0")["pages"]
        assert len(pages) == len(row["pages"])
        assert all(set(page) == {"cap"} for page in pages)
        parts = written(model, row, "t1")["parts"]
        assert [part["type"] for part in parts] == [part["type"] for part in row["parts"]]
        assert len(written(model, row, "t2")["caps"]) == len(row["caps"])
    with pytest.raises(DataError, match="pages"):
        written(model, {"id": "0"}, "t0")


def test_candidates_of_each_record_and_of_the_row() -> None:
    model = worlds.generalist(prepared(OWN, SHARED))
    for row in rows(6):
        pages = written(model, row, "t0")["pages"]
        assert len(pages) == len(row["pages"])
        for page, given in zip(pages, row["pages"], strict=True):
            assert page["label"] in given["choices"]
        blind = {key: value for key, value in row.items() if key != "pages"}
        for page in written(model, blind, "t1")["pages"]:
            assert page["label"] in row["labels"]
    with pytest.raises(DataError, match=r"choices|pages"):
        written(model, {"id": "0", "q": "x"}, "t0")


def test_a_value_that_is_shown_has_no_part_in_equality() -> None:
    one, two = (Shown(((0, 0, 0),), piece=object()) for _ in range(2))
    assert one == two
    assert hash(one) == hash(two)
