"""Packs: flat streams without padding, M-RoPE positions, shifted targets, terms, objectives on the encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from example_worlds import ids_of, maker_of, picture
from tiny_worlds import labels, token_rows

from ofasys_lite.errors import ShapeError
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.learned import Learned, LossRows, Term
from ofasys_lite.layout.objectives import TOKENS, Ctc
from ofasys_lite.layout.pack import Batch, Example, Part, Side, Stream, Target
from ofasys_lite.preprocess.base import Piece
from ofasys_lite.preprocess.image import grid_positions
from ofasys_lite.preprocess.vocabulary import CONTROL_IDS

FIXTURE = Path(__file__).parents[1] / "fixtures" / "positions" / "mrope_positions.json"
CONTENT = json.loads(FIXTURE.read_text(encoding="utf-8"))
START = CONTROL_IDS["start"]
TERM = Term("t", "a", "token", 1.0)


def text(*ids: int) -> Piece:
    return Piece.of_ids(ids)


def image(lines: int, columns: int) -> Piece:
    pixels = np.zeros((lines * columns, 3), dtype=np.uint8)
    return Piece("image", grid_positions(lines, columns), {"pixels": pixels}, grid=(1, lines, columns))


def film(frames: int, lines: int, columns: int) -> Piece:
    times, rows, cells = np.meshgrid(np.arange(frames), np.arange(lines), np.arange(columns), indexing="ij")
    positions_P3 = np.stack([times.ravel(), rows.ravel(), cells.ravel()], axis=1).astype(np.int64)
    return Piece("video", positions_P3, {"pixels": np.zeros((len(positions_P3), 3), dtype=np.uint8)})


Item = tuple[Piece, Term | None]


def sample(source: list[Piece], *targets: list[Item], id: str = "0", losses: tuple[Learned, ...] = ()) -> Example:
    return Example("t", id, (Side(tuple(source), losses),), tuple(map(target, targets)))


def target(items: list[Item]) -> Target:
    found = [Learned(number, TOKENS, (term,)) for number, (_, term) in enumerate(items) if term is not None]
    return Target(tuple(piece for piece, _ in items), tuple(found))


def learned(*ids: int, term: Term = TERM) -> Item:
    return text(*ids), term


def given(*ids: int) -> Item:
    return text(*ids), None


def ctc_of(batch: Batch) -> LossRows:
    (found,) = (rows for rows in batch.losses if rows.objective.name == "ctc")
    return found


def filled(stream: Stream) -> dict[int, Any]:
    """Row -> id (or the adapter's name), every row exactly once."""
    found: dict[int, Any] = {}
    for part in stream.parts:
        values = part.arrays["ids"].tolist() if part.adapter == "text" else [part.adapter] * len(part.rows_P)
        for row, value in zip(part.rows_P.tolist(), values, strict=True):
            assert row not in found
            found[row] = value
    assert sorted(found) == list(range(sum(stream.lengths)))
    return found


# ------------------------------------------------------------------ positions


def layouts() -> list[tuple[str, list[Piece], np.ndarray[Any, Any]]]:
    """Name, pieces and positions of every sequence of the reference cases (Qwen2-VL, arXiv 2409.12191)."""
    found = []
    for case in CONTENT["cases"]:
        grids = {"image": iter(case["image_grid_thw"] or []), "video": iter(case["video_grid_thw"] or [])}
        for number, (ids, mask) in enumerate(zip(case["input_ids"], case["attention_mask"], strict=True)):
            pieces = _pieces(ids[: sum(mask)] if mask[0] else ids, grids, case["spatial_merge_size"])
            positions_S3 = np.array(case["position_ids"])[:, number, : sum(mask)].T
            found.append((f"{case['name']}-{number}", pieces, positions_S3))
    return found


def _pieces(ids: list[int], grids: dict[str, Any], merge: int) -> list[Piece]:
    pads = {CONTENT["tokens"]["image_pad"]: "image", CONTENT["tokens"]["video_pad"]: "video"}
    pieces, place = [], 0
    while place < len(ids):
        kind = pads.get(ids[place])
        if kind is None:
            pieces.append(text(ids[place]))
        else:
            time, high, wide = next(grids[kind])
            pieces.append(film(time, high // merge, wide // merge))
        place += pieces[-1].count
    return pieces


@pytest.mark.parametrize(("pieces", "positions_S3"), [case[1:] for case in layouts()], ids=[c[0] for c in layouts()])
def test_positions_are_those_of_the_reference(pieces: list[Piece], positions_S3: np.ndarray[Any, Any]) -> None:
    assert np.array_equal(collate([sample(pieces)]).source.positions_S3, positions_S3)


@pytest.mark.parametrize(("pieces", "positions_S3"), [case[1:] for case in layouts()], ids=[c[0] for c in layouts()])
def test_targets_stand_where_a_source_would(pieces: list[Piece], positions_S3: np.ndarray[Any, Any]) -> None:
    target: list[Item] = [*((piece, None) for piece in pieces), learned(5)]
    found = collate([sample([], target)]).target.positions_S3
    assert np.array_equal(found[:-1], positions_S3)
    assert found[-1].tolist() == [positions_S3.max() + 1] * 3


def test_every_sequence_starts_at_zero() -> None:
    batch = collate(
        [sample([text(1, 2), image(2, 3)], [learned(1, 2)]), sample([text(7)], [learned(3)], [learned(4, 5)])]
    )
    starts = np.cumsum([0, *batch.source.lengths])[:-1]
    assert batch.source.positions_S3[starts].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert batch.target.lengths == (2, 1, 2)
    assert batch.target.positions_S3[:, 0].tolist() == [0, 1, 0, 0, 1]


def test_a_grid_written_by_the_decoder_is_queried_from_its_own_cells() -> None:
    row = {"q": "x", "s": [[1, 2], [2, 1]]}
    maker = maker_of("[TEXT:q] -> so [STRUCT:s,schema=grid(2,2,values=(1,2))] end", [row])
    batch = collate([maker.example(row, "0", None, False)])
    words = len(maker.vocabulary.encode("so"))
    cells = batch.target.positions_S3[words : words + 4] - words
    assert cells.tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1]]


# -------------------------------------------------------------------- streams


def test_rows_are_laid_end_to_end_without_padding() -> None:
    batch = collate(
        [sample([text(1, 2, 3), image(1, 2)], [learned(8)], id="a"), sample([text(4)], [learned(9)], id="b")]
    )
    assert batch.source.lengths == (5, 1)
    assert filled(batch.source) == {0: 1, 1: 2, 2: 3, 3: "image", 4: "image", 5: 4}
    assert batch.samples == (("t", "a"), ("t", "b"))
    assert batch.cross == ((1, 5), (1, 1))


def test_an_adapter_gets_all_its_pieces_of_the_pack_at_once() -> None:
    batch = collate([sample([image(2, 2), text(1)]), sample([text(2), image(1, 3)])])
    images = next(part for part in batch.source.parts if part.adapter == "image")
    assert images.counts == (4, 3)
    assert images.sizes == {"pixels": (4, 3)}
    assert images.grids == ((1, 2, 2), (1, 1, 3))
    assert images.rows_P.tolist() == [0, 1, 2, 3, 6, 7, 8]
    assert [part.adapter for part in batch.source.parts] == ["image", "text"]


def test_targets_are_shifted_by_one() -> None:
    batch = collate(
        [sample([text(1)], [given(10, 11), learned(12, 13)], id="a"), sample([text(1)], [learned(14)], id="b")]
    )
    assert filled(batch.target) == {0: START, 1: 10, 2: 11, 3: 12, 4: START}
    assert batch.target.lengths == (4, 1)
    assert token_rows(batch).tolist() == [2, 3, 4]
    assert labels(batch).tolist() == [12, 13, 14]
    assert batch.samples_U.tolist() == [0, 0, 1]
    assert batch.causal_rows == 5


def test_each_row_predicts_the_element_at_its_own_position() -> None:
    row = {"q": "the cat", "a": "sat on a mat", "b": "yes"}
    maker = maker_of("[TEXT:q] -> it [TEXT:a] or [TEXT:b]", [row])
    example = maker.example(row, "0", None, False)
    batch, ids = collate([example]), ids_of(example.targets[0])
    read = filled(batch.target)
    assert [read[i] for i in range(len(ids))] == [START, *ids[:-1]]
    assert [ids[row] for row in token_rows(batch).tolist()] == labels(batch).tolist()


def test_several_targets_of_one_encoding_lie_next_to_each_other_and_encode_it_once() -> None:
    row = {"q": "the cat", "a": "sat", "b": "yes"}
    maker = maker_of("[TEXT:q] -> [TEXT:a] ;; [TEXT:b,weight=0.2]", [row])
    example = maker.example(row, "0", None, False)
    batch = collate([example, example])
    counts = [target.count for target in example.targets]
    assert batch.target.lengths == (*counts, *counts)
    assert batch.source.lengths == (example.sources[0].count,) * 2
    assert batch.cross == ((sum(counts), example.sources[0].count),) * 2
    assert [(t.slot, t.weight) for t in batch.terms] == [("a", 1.0), ("b", 0.2)]
    assert batch.terms_U.tolist() == ([0] * counts[0] + [1] * counts[1]) * 2


def test_an_empty_pack_is_legal() -> None:
    batch = collate([])
    assert (sum(batch.source.lengths), sum(batch.target.lengths), batch.causal_rows) == (0, 0, 0)
    assert batch.source.positions_S3.shape == batch.target.positions_S3.shape == (0, 3)
    assert batch.source.parts == batch.target.parts == batch.terms == batch.samples == batch.losses == ()
    assert all(len(a) == 0 for a in (batch.terms_U, batch.samples_U, batch.units_U))


def test_a_sample_without_a_source_or_without_targets_keeps_its_place() -> None:
    batch = collate(
        [sample([], [learned(1, 2)], id="a"), sample([text(3)], id="b"), sample([text(4)], [learned(5)], id="c")]
    )
    assert batch.source.lengths == (0, 1, 1)
    assert batch.target.lengths == (2, 1)
    assert batch.cross == ((2, 0), (0, 1), (1, 1))
    assert batch.samples_U.tolist() == [0, 0, 2]


def test_a_pack_is_its_samples_one_by_one() -> None:
    rows = [
        {"q": "the cat", "a": "sat", "i": picture(20, 30)},
        {"q": "a dog", "a": "sat on a mat", "i": picture(40, 20)},
    ]
    maker = maker_of("[IMAGE:i] [TEXT:q] -> [TEXT:a]", rows)
    examples = [maker.example(row, str(i), None, False) for i, row in enumerate(rows)]
    pack, alone = collate(examples), [collate([example]) for example in examples]
    for name in ("source", "target"):
        streams = [getattr(batch, name) for batch in alone]
        positions = np.concatenate([stream.positions_S3 for stream in streams])
        assert np.array_equal(getattr(pack, name).positions_S3, positions)
        for part in getattr(pack, name).parts:
            parts = [next(p for p in stream.parts if p.adapter == part.adapter) for stream in streams]
            for key, values in part.arrays.items():
                assert np.array_equal(values, np.concatenate([p.arrays[key] for p in parts]))
    assert np.array_equal(labels(pack), np.concatenate([labels(batch) for batch in alone]))


def test_terms_are_numbered_as_they_are_met() -> None:
    other = Term("u", "b", "token", 2.0)
    batch = collate([sample([], [learned(1), learned(2, 3, term=other)]), sample([], [learned(4)])])
    assert batch.terms == (TERM, other)
    assert batch.terms_U.tolist() == [0, 1, 1, 0]


def test_objectives_on_the_encoder_name_their_rows_labels_and_sample() -> None:
    term = Term("t", "w:ctc", "token", 0.3)
    loss = Learned(1, Ctc("a"), (term,), {"labels": np.array([7, 8])})
    batch = collate([sample([text(1, 2)], [learned(5)]), sample([text(3), image(2, 2)], [learned(6)], losses=(loss,))])
    assert [(rows.side, rows.objective.name, rows.adapter) for rows in batch.losses] == [
        ("target", "cross_entropy", "text"),
        ("source", "ctc", "text"),
    ]
    ctc = ctc_of(batch)
    assert (ctc.samples_U.tolist(), [batch.terms[i] for i in ctc.terms_U]) == ([1], [term])
    assert ctc.rows_R.tolist() == [3, 4, 5, 6]
    assert (ctc.counts, ctc.units_U.tolist(), ctc.host["labels"].tolist()) == ((4,), [2], [7, 8])


def test_ctc_of_a_row_judges_the_rows_of_its_sound() -> None:
    row = {"w": (np.zeros(16000, dtype=np.float32), 16000), "a": "the cat", "q": "what"}
    maker = maker_of("[TEXT:q] [AUDIO:w,loss=ctc(a,weight=0.3)] -> [TEXT:a]", [row])
    example = maker.example(row, "0", None, False)
    batch = collate([example, example])
    sounds = next(part for part in batch.source.parts if part.adapter == "audio")
    ctc, ids = ctc_of(batch), maker.vocabulary.encode("the cat")
    assert ctc.rows_R.tolist() == sounds.rows_P.tolist()
    assert ctc.counts == sounds.counts
    assert ctc.host["labels"].tolist() == [*ids, *ids]
    assert ctc.units_U.tolist() == [len(ids)] * 2


def test_noise_changes_what_is_fed_and_not_what_is_predicted() -> None:
    row = {"q": "x", "a": "the cat sat on a mat with seven other animals"}
    maker = maker_of("[TEXT:q] -> [TEXT:a,noise_ratio=0.9]", [row])
    noisy = collate([maker.example(row, "0", np.random.default_rng(0), True)])
    clean = collate([maker.example(row, "0", np.random.default_rng(0), False)])
    assert np.array_equal(labels(noisy), labels(clean))
    assert filled(noisy.target) != filled(clean.target)
    assert filled(noisy.target)[0] == START


def test_rows_that_a_piece_does_not_learn_carry_no_loss() -> None:
    piece = Piece("text", text(1, 2, 3).positions_P3, {"ids": np.array([1, 2, 3])}, np.array([True, False, True]))
    batch = collate([sample([], [(piece, TERM)])])
    assert token_rows(batch).tolist() == [0, 2]
    assert labels(batch).tolist() == [1, 3]


def test_a_given_image_is_fed_between_tokens_and_left_out_at_the_end() -> None:
    batch = collate([sample([], [learned(1), (image(1, 2), None), learned(2)])])
    assert filled(batch.target) == {0: START, 1: 1, 2: "image", 3: "image"}
    assert token_rows(batch).tolist() == [0, 3]
    batch = collate([sample([], [learned(1), (image(1, 2), None)])])
    assert filled(batch.target) == {0: START}


def test_an_absent_optional_target_is_one_row_and_an_absent_source_none() -> None:
    row = {"q": "the", "a": None, "s": ""}
    maker = maker_of("[TEXT:q] [TEXT:s?] -> [TEXT:a?]", [{"q": "the", "a": "cat", "s": "x"}])
    batch = collate([maker.example(row, "0", None, False)])
    assert batch.source.lengths == (len(maker.vocabulary.encode("the")),)
    assert batch.target.lengths == (1,)
    assert labels(batch).tolist() == [CONTROL_IDS["absent"]]


def test_a_stream_whose_rows_are_not_all_filled_is_refused() -> None:
    batch = collate([sample([text(1, 2)], [learned(1)])])
    broken = Stream(batch.source.positions_S3, (3,), batch.source.parts)
    with pytest.raises(ShapeError, match="source stream of 3 rows has 2 filled rows"):
        _with(batch, source=broken)
    short = Stream(batch.source.positions_S3[:1], (2,), batch.source.parts)
    with pytest.raises(ShapeError, match="1 positions"):
        _with(batch, source=short)
    with pytest.raises(ShapeError, match="cross-attention"):
        _with(batch, cross=((1, 5),))


def _with(batch: Batch, **changed: Any) -> Batch:
    return Batch(**{**{name: getattr(batch, name) for name in Batch.__dataclass_fields__}, **changed})


def test_parts_count_their_rows() -> None:
    part = collate([sample([text(1, 2), text(3)])]).source.parts[0]
    assert isinstance(part, Part)
    assert part.counts == (2, 1)
    assert sum(part.counts) == len(part.rows_P) == len(part.arrays["ids"])
