"""Explain: the plan as a table, its cost by the formula of the model room, and what has to wait."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest
from plan_lines import good_lines, plan_of
from rich.console import Console

from ofasys_lite.commands import app
from ofasys_lite.commands.explain import histogram, main, model_sizes
from ofasys_lite.errors import CardError
from ofasys_lite.plan.cost import flops
from ofasys_lite.plan.explanation import Tokens, explain_plan
from ofasys_lite.plan.show import show

SETS = "sets: {labels: [cat, dog], items: [a, b, c]}"


def shown(line: str) -> str:
    out = io.StringIO()
    show(explain_plan(plan_of(line), model_sizes()), Console(file=out, width=200))
    return out.getvalue()


@pytest.mark.parametrize("line", good_lines())
def test_every_line_is_explained_with_its_canonical_form_and_what_cannot_be_trained(line: str) -> None:
    plan, text = plan_of(line), shown(line)
    assert plan.line.split()[0] in text
    for slot in plan.slots():
        assert f"{slot.modality} {slot.column}" in text
    assert text.count("cannot be trained yet: ") == len(plan.cannot_train)
    for reason in plan.cannot_train:
        assert f"cannot be trained yet: {reason}" in text


def test_a_line_of_the_table_says_side_reader_loss_and_constraint() -> None:
    line = (
        "[AUDIO:wav,loss=ctc(text,weight=0.3)] what? -> [TEXT:text,max_length=30] ;; [TEXT:y,closed_set=(a,b),weight=2]"
    )
    explanation = explain_plan(plan_of(line), count=lambda slot: Tokens(10, "measured"))
    wav, words, text, label = explanation.templates[0]
    assert (wav.side, wav.preprocess, wav.adapter) == ("source", "AudioPreprocess", "AudioAdapter")
    assert wav.loss == "ctc per token, weight 0.3"
    assert (words.segment, words.what, words.loss) == ("words", "what?", "read")
    assert (text.side, text.loss, text.attributes) == ("target 1", "cross_entropy per token", "max_length=30")
    assert text.constraint == "any TEXT of 0 to 30 tokens"
    assert (label.side, label.loss) == ("target 2", "cross_entropy per token, weight 2")
    assert label.constraint == "one of 2 values of the line"
    assert label.tokens == Tokens(1, "exact")
    assert (explanation.source, explanation.target) == (11, 11)


def test_groups_optional_slots_drop_and_forced_slots_are_put_into_words() -> None:
    line = "[TEXT:q,drop=0.1] -> [TEXT:p,no_loss] ([TEXT:a?] | [BOX:b])*<over=c,by=type,max=9,keep=last,order=random>"
    lines = explain_plan(plan_of(line)).templates[0]
    assert lines[0].loss == "read; emptied with probability 0.1"
    assert (lines[1].loss, lines[1].constraint) == ("forced", "given: the row must have it")
    assert lines[2].constraint == "0 to any number of elements, cut to last 9, in random order in training"
    assert [one.segment for one in lines[3:]] == ["alternative", "slot", "alternative", "slot"]
    assert lines[3].what == "type = text, a"
    assert lines[4].constraint.startswith("present or absent, then any TEXT")
    assert {one.depth for one in lines[3:]} == {1}


@pytest.mark.parametrize(("source", "target"), [(128, 32), (1, 1), (0, 5), (300, 0)])
def test_the_cost_is_that_of_the_model_room(source: int, target: int) -> None:
    from ofasys_lite.cards.find import content_folder
    from ofasys_lite.cards.yaml_nodes import plain, read_yaml
    from ofasys_lite.model.config import ModelConfig
    from ofasys_lite.model.work import flops as model_flops

    sizes = model_sizes()
    assert {"tiny", "small", "base", "large", "huge"} <= set(sizes)
    for name, size in sizes.items():
        values = plain(read_yaml(content_folder("presets") / "model" / f"{name}.yaml"))["model"]
        expected = model_flops(ModelConfig.from_dict(values), [source], [target], 32_000)
        assert flops(size, source, target, 32_000) == expected


def test_the_cost_of_the_performance_document_for_a_plain_layer_holds() -> None:
    from ofasys_lite.plan.cost import ModelSize

    d, f, source, target, vocabulary, layers = 512, 2048, 100, 30, 32_000, 6
    encoder = layers * (2 * source * (4 * d * d + 2 * d * f) + 4 * source * source * d)
    decoder = 2 * target * (6 * d * d + 2 * d * f) + 4 * source * d * d + 2 * target * target * d
    decoder = layers * (decoder + 4 * source * target * d) + 2 * target * d * vocabulary
    size = ModelSize(d, layers, layers, 8, ffn=f, gated=False)
    assert flops(size, source, target, vocabulary) == encoder + decoder


def test_an_unknown_preset_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(CardError, match="no model preset `smal`") as caught:
        model_sizes(["smal"])
    assert "did you mean `small`?" in caught.value.help


def test_the_command_explains_a_line_and_a_card(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["explain", "[IMAGE:img] what? -> [BOX:box]", "vqa", "--model", "tiny"]) == 0
    out = capsys.readouterr().out
    assert "IMAGE img" in out
    assert "TEXT question" in out
    assert "GFLOPs to train on it" in out


def test_the_command_exits_1_with_the_caret_under_the_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["explain", "[IMAGE:img] what? -> [TEXT:cap,max_lenght=30]"]) == 1
    err = capsys.readouterr().err
    assert "error[E105]" in err
    assert err.splitlines()[2].strip() == "^^^^^^^^^^"
    assert app.main(["explain", "[TXET:a] -> [TEXT:b]"]) == 1
    assert app.main(["explain", "captoin"]) == 1
    assert "did you mean `caption`?" in capsys.readouterr().err


def test_what_cannot_be_trained_is_explained() -> None:
    assert "cannot be trained yet: generating SCENE is planned for a later version" in shown("[TEXT:q] -> [SCENE:i]")


def test_elements_that_the_row_gives_are_explained_so() -> None:
    text = shown("[TEXT:q] -> ([TEXT:a,no_loss] [TEXT:b])*<over=c>")
    assert "cannot be trained yet" not in text
    assert "next or end" not in text


def test_explaining_imports_no_torch() -> None:
    code = (
        "import sys; from ofasys_lite.commands.app import main; rc = main(['explain', '[IMAGE:i] -> [TEXT:a]']);"
        "heavy = {'torch', 'lightning', 'pyarrow', 'datasets', 'hydra'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_analyze_measures_lengths_cuts_sets_and_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{'word ' * (1 + i % 5)},{'yes' if i % 2 else 'no'}\n" for i in range(60))
    (tmp_path / "qa.csv").write_text(f"q,a\n{rows},no\n", encoding="utf-8")
    line = "[TEXT:q,max_length=4] -> [TEXT:a,closed_set]"
    assert main([line, str(tmp_path / "qa.csv"), "--analyze", "--rows", "40"]) == 0
    out = capsys.readouterr().out
    assert "one of 2 values of the training column" in out
    assert "closed set of a: 2 values" in out
    assert "max_length=4 cuts" in out
    assert "source TEXT q: rows per value" in out
    assert all(f"{stage} " in out for stage in ("reading", "preprocess", "collation"))
    assert "40 of train measured" in out


def test_analyze_needs_data() -> None:
    with pytest.raises(CardError, match="has no data to analyze"):
        main(["[TEXT:q] -> [TEXT:a]", "--analyze"])


def test_a_histogram_counts_every_value_once() -> None:
    bars = histogram(list(range(100)) + [99] * 3)
    assert sum(int(bar.split()[-1]) for bar in bars) == 103
    assert len(bars) <= 8
    assert histogram([]) == ["  none"]
    assert histogram([5, 5]) == [f"     5 {'█' * 40} 2"]


def test_a_target_written_in_codes_says_positions_codes_and_that_its_codec_is_trained_first() -> None:
    line = "draw [TEXT:a] -> [IMAGE:b,size=16,codec=dnd(depth=2,codes=64,steps=9)]"
    explanation = explain_plan(plan_of(line), count=lambda slot: Tokens(16, "exact"))
    assert explanation.templates[0][-1].constraint == "16 positions of 2 codes each, of 64"
    (note,) = explanation.notes
    assert note.startswith("[IMAGE:b] names no codec folder: one is trained in 9 steps")
    flat = explain_plan(plan_of("[TEXT:a] -> [IMAGE:b,codec=dnd(layers=flat)]"))
    assert flat.templates[0][-1].constraint == "codes one after another"
    assert explain_plan(plan_of("[TEXT:a] -> [IMAGE:b,codec=dnd(some/folder)]")).notes == ()


def test_explain_shows_the_sizes_of_a_codec_that_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from code_worlds import codec

    folder = codec(tmp_path / "codec")
    assert main([f"[TEXT:a] -> [IMAGE:b,codec=dnd({folder})]"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "16 positions of 2" in shown
    assert "names no codec" not in shown
    with pytest.raises(CardError, match="no codec in nowhere"):
        main(["[TEXT:a] -> [IMAGE:b,codec=dnd(nowhere)]"])


@pytest.mark.parametrize(("name", "rounds"), [("TEXT", True), ("PHONE", True), ("BOX", False), ("STRUCT", False)])
def test_ways_of_writing_are_those_that_a_line_may_ask_for(
    capsys: pytest.CaptureFixture[str], name: str, rounds: bool
) -> None:
    assert app.main(["explain", name]) == 0
    assert ("mask_predict" in capsys.readouterr().out) is rounds
    assert app.main(["explain", f"[TEXT:a] -> [{name}:b,decode=mask_predict]"]) == (0 if rounds else 1)


def test_a_type_is_explained_with_what_its_slots_take(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["explain", "IMAGE", "BOUNDING_BOX"]) == 0
    image, box = capsys.readouterr().out.split("BOX: read yes, written yes")
    assert "IMAGE: read yes, written yes" in image
    for said in ("dnd(...)", "whole numbers 1 to 4096", "none, light, strong", "image_resnet", "mae"):
        assert said in image
    assert "also written BOUNDING_BOX" in box
    assert "xyxy, xywh" in box
    assert not any(f"│ {word} " in box for word in ("codec", "loss"))
    assert "greedy, sample, mask_predict" in image
    assert "greedy, beam, sample" in box
    assert app.main(["explain", "IMGAE"]) == 1
    assert "did you mean `IMAGE`?" in capsys.readouterr().err


def test_what_a_value_could_never_be_read_by_is_refused_without_data(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["explain", "[TEXT:q] -> [TEXT:sql,grammar=sql(scheme=db)]"]) == 1
    assert "grammar sql has no `scheme`" in capsys.readouterr().err
    assert app.main(["explain", "[IMAGE:img,size=70] what? -> [TEXT:a]"]) == 1
    assert "write `size=72`" in capsys.readouterr().err
