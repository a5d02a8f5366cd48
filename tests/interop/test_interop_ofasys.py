"""OFASys' spellings: what they mean here, and what is refused with what to use instead."""

from pathlib import Path
from typing import Any

import pytest

from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.errors import CardError, CheckpointError
from ofasys_lite.interop.ofasys_spellings import GENERATION, current_line, generation, refuse_checkpoint, weight_of


@pytest.mark.parametrize(
    ("arguments", "options", "several"),
    [
        ({}, {}, False),
        ({"beam_size": 5, "max_len": 20, "min_len": 2}, {"beam": 5, "max_length": 20, "min_length": 2}, False),
        ({"beam": 5, "lenpen": 0.6, "max_len_b": 32}, {"beam": 5, "length_penalty": 0.6, "max_length": 32}, False),
        ({"beam_size": None, "temperature": None}, {}, False),
        ({"beam_size": 4, "return_n_best": -1}, {"beam": 4, "n_best": 4}, True),
        ({"beam_size": 4, "return_n_best": 2}, {"beam": 4, "n_best": 2}, True),
        ({"return_n_best": 1}, {"n_best": 1}, False),
        ({"sampling": True, "sampling_topk": 5}, {"method": "sample", "top_k": 5}, False),
        ({"sampling": True, "beam_size": 1, "sampling_topp": -1.0}, {"method": "sample"}, False),
        ({"sampling": False, "no_repeat_ngram_size": 3}, {"no_repeat_ngram": 3}, False),
        ({"length_penalty": 0.5, "seed": 3}, {"length_penalty": 0.5, "seed": 3}, False),
    ],
)
def test_generation_arguments_are_decoding_options(arguments: Any, options: Any, several: bool) -> None:
    found = generation(arguments)
    assert (dict(found.options), found.several) == (options, several)
    DecodeOptions.of(found.options)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"beamsize": 3}, "did you mean `beam_size`"),
        ({"beam_size": 3, "beam": 3}, "says `beam` a second time"),
        ({"unk_penalty": 1.0}, "there is no unknown token"),
        ({"max_iter": 100}, "speech cannot be written yet"),
        ({"use_cache": True}, "leave it out"),
        ({"constraint_range": "(4,10)"}, "the line says what the target may be"),
        ({"sampling": True, "beam_size": 5}, "sampling draws one output a call"),
        ({"sampling": 1}, "allowed: True, False"),
    ],
)
def test_an_argument_without_a_meaning_says_what_to_use_instead(arguments: Any, words: str) -> None:
    with pytest.raises(CardError) as raised:
        generation(arguments)
    assert words in str(raised.value)


def test_every_spelling_names_an_option_that_exists() -> None:
    assert set(GENERATION.values()) <= set(DecodeOptions.__dataclass_fields__)


def test_marks_of_begin_and_end_are_left_out_with_a_warning() -> None:
    with pytest.warns(FutureWarning, match="are left out"):
        line = current_line('[IMAGE:img] <BOS> which " [TEXT:cap] " ? <EOS> -> [BOX:box,add_bos,add_eos,bins=3]')
    assert line == '[IMAGE:img] which " [TEXT:cap] " ? -> [BOX:box,bins=3]'
    assert current_line("  [TEXT:a]   -> [TEXT:b] ") == "  [TEXT:a]   -> [TEXT:b] "


def test_micro_batch_sizes_are_weights_in_samples() -> None:
    assert weight_of(4) == 4.0
    for wrong in (0, -1, 2.5, True, "4"):
        with pytest.raises(CardError, match="a whole number from 1"):
            weight_of(wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "path",
    ["multitask.pt", "http://ofasys.oss/model_hub/multitask_10k.pt", "oss://a/b", "model.bin", Path("a/b.pth")],
)
def test_checkpoints_of_ofasys_are_refused_with_what_to_load(path: str | Path) -> None:
    with pytest.raises(CheckpointError, match=r"is no folder of this package|are not fetched") as raised:
        refuse_checkpoint(path)
    assert "ofasys-lite import" in raised.value.help


def test_a_checkpoint_to_resume_from_is_no_model() -> None:
    with pytest.raises(CheckpointError, match="resume=True"):
        refuse_checkpoint("runs/a/checkpoints/last.ckpt")


def test_folders_and_ids_pass(tmp_path: Path) -> None:
    (tmp_path / "multitask.pt").mkdir()
    for path in (tmp_path / "multitask.pt", "runs/a", "someone/model"):
        refuse_checkpoint(path)
