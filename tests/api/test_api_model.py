"""GeneralistModel: made by a preset, used by a line or a task's name, saved and loaded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from api_worlds import COLOUR, FIND, REVERSE, picture, tiny, word_rows

from ofasys_lite import GeneralistModel, ModelConfig, Prediction
from ofasys_lite.errors import CardError, CheckpointError, DataError, InstructionError, OfasysError
from ofasys_lite.preprocess.base import Context
from ofasys_lite.preprocess.box import BoxPreprocess


def test_a_preset_gives_sizes_and_single_fields_change_them() -> None:
    assert GeneralistModel("tiny").config.width == 128
    config = GeneralistModel("tiny", width=64, heads=2).config
    assert (config.width, config.heads, config.kv_heads, config.ffn) == (64, 2, 2, 256)
    assert GeneralistModel().config == GeneralistModel("small").config
    assert GeneralistModel(ModelConfig(width=64, heads=2)).config.width == 64


def test_a_preset_gives_settings_of_modalities_and_the_user_others() -> None:
    assert GeneralistModel("tiny").modalities()["IMAGE"].settings["patch"] == 4
    changed = GeneralistModel("tiny", modalities={"IMAGE": {"patch": 8}}).modalities()
    assert changed["IMAGE"].settings["patch"] == 8
    assert changed["IMAGE"].settings["max_megapixels"] == 100


def test_a_preset_of_ones_own_is_found_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text(
        "# @package _global_\nmodel: {width: 48, encoder_layers: 1, decoder_layers: 1, heads: 2}\n"
    )
    assert GeneralistModel("mine", folder=tmp_path).config.width == 48


def test_a_learned_task_is_called_by_name_and_by_its_line(model: GeneralistModel) -> None:
    by_name = model("colour", img=picture())
    assert isinstance(by_name, Prediction)
    assert by_name.text in ("red", "green", "blue")
    assert model(COLOUR, img=picture()) == by_name
    assert model(COLOUR, picture()) == by_name
    assert model("colour", row={"img": picture(), "unused": 3}) == by_name


def test_another_line_with_what_the_model_knows_can_be_used(model: GeneralistModel) -> None:
    said = model("[TEXT:a] and [TEXT:b?] -> [TEXT:c,closed_set=(yes,no)]", a="x")
    assert said.value in ("yes", "no")
    assert model.tasks == ("reverse", "colour", "find")


def test_a_slot_without_a_name_is_filled_by_position(model: GeneralistModel) -> None:
    assert model("[TEXT] [TEXT] -> [TEXT,closed_set=(p,q)]", "one", "two").value in ("p", "q")


def test_the_closed_set_of_a_call_takes_the_place_of_the_lines(model: GeneralistModel) -> None:
    assert model("colour", img=picture(), closed_set=["orange"]).text == "orange"
    assert model(REVERSE, "cat", closed_set=['say "a, b)"']).text == 'say "a, b)"'
    assert model("reverse", "cat", closed_set={"answer": ("tac", "god")}).text in ("tac", "god")
    assert model("colour", img=picture()).text in ("red", "green", "blue")


def test_decoding_options_are_keywords(model: GeneralistModel) -> None:
    best = model("colour", img=picture(), beam=3, n_best=3)
    assert {p.text for p in best.n_best} == {"red", "green", "blue"}
    assert best.n_best[0].score >= best.n_best[1].score >= best.n_best[2].score
    drawn = {model("colour", img=picture(), method="sample", seed=seed).text for seed in range(12)}
    assert len(drawn) > 1
    short, long = (model("reverse", "cat", max_length=most).text for most in (2, 20))
    assert len(short) < len(long)


def test_a_box_is_drawn_on_the_image_of_the_row(model: GeneralistModel) -> None:
    from PIL import Image

    said = model("find", img=picture(), cap="red")
    ((box, label),) = said.boxes
    assert box == said.value
    assert label == ""
    assert all(0 <= v <= 16 for v in box)
    assert said.save_box("a/found").name == "found.png"
    with Image.open("a/found.png") as drawn:
        assert max(drawn.size) >= 256
    assert said.save("found.json").read_text().startswith('{\n "patch_boxes"')


def test_rows_are_predicted_together_and_in_order(model: GeneralistModel) -> None:
    rows = word_rows()[:7]
    done: list[int] = []
    together = model.predict("reverse", rows, progress=done.append, beam=2, max_length=12)
    assert [p.id for p in together] == [str(i) for i in range(7)]
    assert [p.text for p in together] == [model("reverse", r["word"], beam=2, max_length=12).text for r in rows]
    assert done == [7]
    assert model.predict("reverse", []) == []


def test_rows_come_from_a_file_and_paths_in_it_start_at_its_folder(model: GeneralistModel, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    picture("blue").save(folder / "sky.png")
    (folder / "rows.csv").write_text("id,img,cap\nn7,sky.png,blue\n")
    (said,) = model.predict("find", folder / "rows.csv")
    assert said.id == "n7"
    assert said.save_box("sky.jpg").exists()


def test_columns_of_the_card_are_taken_from_the_data(model: GeneralistModel) -> None:
    from dataclasses import replace

    from ofasys_lite.generalist.trained import TaskEntry

    entry = model.generalist.tasks["reverse"]
    model.generalist.tasks["mapped"] = TaskEntry(replace(entry.card, columns={"word": "token"}), entry.plan)
    try:
        said = model("reverse", word="cat", max_length=8).text
        assert model("mapped", row={"token": "cat"}, max_length=8).text == said
        assert model.predict("mapped", [{"token": "cat"}], max_length=8)[0].text == said
    finally:
        del model.generalist.tasks["mapped"]


def test_a_saved_model_says_the_same_and_keeps_its_tasks(model: GeneralistModel, tmp_path: Path) -> None:
    before = model("reverse", "cat", max_length=20)
    model("[TEXT:a] -> [TEXT:b,closed_set=(yes,no)]", a="x")
    loaded = GeneralistModel.from_pretrained(model.save_pretrained(tmp_path / "saved"))
    assert loaded.tasks == ("reverse", "colour", "find")
    assert loaded("reverse", "cat", max_length=20) == before
    assert loaded.config == model.config
    assert "word" not in (tmp_path / "saved" / "config.json").read_text().split('"data"')[-1].split("}")[0]
    assert model.run is not None
    assert GeneralistModel.from_pretrained(model.run)("reverse", "cat", max_length=20) == before


def test_a_model_shows_itself(model: GeneralistModel) -> None:
    assert repr(tiny()) == "GeneralistModel(1+1 layers, width 32, not trained)"
    assert "tasks=['reverse', 'colour', 'find']" in repr(model)


def test_a_device_that_is_not_there_is_told(model: GeneralistModel) -> None:
    import torch

    assert model.to("cpu").cpu() is model
    with pytest.raises(CheckpointError, match="no device `gpu7`"):
        model.to("gpu7")
    if not torch.cuda.is_available():
        with pytest.raises(CheckpointError, match="there is no CUDA device here"):
            model.cuda()


Use = Callable[[GeneralistModel], Any]
MISTAKES: dict[str, tuple[Use, type[OfasysError], str]] = {
    "column": (lambda m: m("colour", imgg=1), DataError, "`imgg` is neither a column of the line nor an option"),
    "option": (lambda m: m("colour", picture(), beem=2), DataError, "max_length"),
    "near": (lambda m: m("colour", imgg=1), DataError, "did you mean `img`"),
    "target": (lambda m: m("colour", img=picture(), label="red"), DataError, "`label` is what the model writes"),
    "missing": (lambda m: m("colour"), DataError, "the line reads [IMAGE:img], and `img` is not given"),
    "row": (lambda m: m("colour", row={"image": 1}), DataError, "given: image"),
    "list": (lambda m: m("colour", row=[1]), DataError, "row is list"),  # type: ignore[arg-type]
    "twice": (lambda m: m("colour", picture(), img=picture()), DataError, "column `img` is given twice"),
    "many": (lambda m: m("colour", 1, 2), DataError, "2 values for a line that reads 1 columns"),
    "task": (lambda m: m("color", img=1), CheckpointError, "did you mean `colour`"),
    "line": (lambda m: m("[TEXT:a] -> [TXT:b]"), InstructionError, "did you mean `TEXT`"),
    "adapter": (lambda m: m("[AUDIO:a] -> [TEXT:b]", a="x.wav"), CheckpointError, "no adapter for AUDIO"),
    "written": (lambda m: m("[TEXT:a] -> [VIDEO:b]", a="x"), CheckpointError, "no adapter for VIDEO"),
    "codes": (lambda m: m("[TEXT:a] -> [IMAGE:b]", a="x"), CheckpointError, "no learned task writes codes"),
    "set": (lambda m: m("[TEXT:a] -> [TEXT:b,closed_set]", a="x"), CheckpointError, "closed_set=(yes,no)"),
    "file": (lambda m: m("colour", img="no.png"), DataError, "no such file"),
    "url": (lambda m: m("colour", img="http://127.0.0.1:9/a.png"), DataError, "cannot read image http://127.0.0.1:9"),
    "range": (lambda m: m("colour", img=picture(), beam=0), CardError, "beam is 0"),
    "empty": (lambda m: m("colour", img=picture(), closed_set=[]), CardError, "closed_set of `label` is []"),
    "text": (lambda m: m("colour", img=picture(), closed_set="red"), CardError, "a list of texts"),
    "closed": (lambda m: m("colour", picture(), closed_set={"lable": ["a"]}), CardError, "did you mean `label`"),
    "box": (lambda m: m("find", picture(), "red", closed_set=["a"]), InstructionError, "BOX"),
    "dict": (lambda m: m.predict("colour", {"img": 1}), DataError, "write predict(task, [row])"),
    "number": (lambda m: m(3), DataError, "the task is int"),  # type: ignore[arg-type]
    "draw": (lambda m: m("colour", img=picture()).save_box("a.png"), DataError, "no box to draw"),
    "ending": (lambda m: m("find", picture(), "red").save_box("a.pgn"), DataError, "did you mean `.png`"),
    "fresh": (lambda m: tiny()("colour", img=1), CheckpointError, "not trained yet"),
    "save": (lambda m: tiny().save_pretrained("x"), CheckpointError, "fit(model, tasks, steps=1000)"),
    "preset": (lambda m: GeneralistModel("tyny"), CardError, "did you mean `tiny`"),
    "size": (lambda m: GeneralistModel("tiny", widht=3), CardError, "did you mean `width`"),
    "kind": (lambda m: GeneralistModel(3), CardError, "not by int"),  # type: ignore[arg-type]
    "modality": (lambda m: GeneralistModel("tiny", modalities={"IMGE": {}}), CardError, "did you mean `IMAGE`"),
    "setting": (
        lambda m: GeneralistModel("tiny", modalities={"IMAGE": {"pach": 4}}),
        CardError,
        "did you mean `patch`",
    ),
    "nothing": (lambda m: GeneralistModel.from_pretrained("runs/none"), CheckpointError, "no such folder"),
    "pt": (lambda m: GeneralistModel.from_pretrained("a.pt"), CheckpointError, "ofasys-lite import FILE.pt"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_a_mistake_says_what_to_do(kind: str, model: GeneralistModel) -> None:
    use, error, words = MISTAKES[kind]
    with pytest.raises(error) as raised:
        use(model)
    assert words in str(raised.value)


def test_all_unreadable_rows_are_told_at_once(model: GeneralistModel) -> None:
    with pytest.raises(OfasysError, match="2 errors"):
        model.predict("colour", [{"img": "a.png"}, {"img": picture()}, {"img": "b.png"}])


def test_boxes_of_a_line_and_of_groups_are_corners() -> None:
    kinds = {"box": "BOX", "label": "TEXT"}
    tools = {"box": BoxPreprocess(Context({}, cast(Any, None)))}
    objects = [{"box": [1.0, 2.0, 3.0, 4.0], "label": "cat"}, {"label": "no box"}]
    found = [([1.0, 2.0, 3.0, 4.0], "cat")]
    assert Prediction("t", "0", {"objects": objects}, 0.0, kinds, tools=tools).boxes == found
    assert (
        Prediction("t", "0", {"box": [[1.0, 2.0, 3.0, 4.0]], "label": ["cat"]}, 0.0, kinds, tools=tools).boxes == found
    )
    sized = Prediction("t", "0", {"box": [1.0, 2.0, 2.0, 2.0]}, 0.0, kinds, sized=frozenset({"box"}), tools=tools)
    assert sized.boxes == [([1.0, 2.0, 3.0, 4.0], "")]
    assert FIND.endswith("[BOX:patch_boxes]")
