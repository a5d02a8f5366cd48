from pathlib import Path

import pytest

from ofasys_lite.cards import MetricSpec, find_card, load_task_card, modalities, modality
from ofasys_lite.cards.find import find_task, own_task_names
from ofasys_lite.cards.yaml_nodes import overlay, plain, read_yaml
from ofasys_lite.errors import CardError, ErrorGroup, InstructionError, OfasysError
from ofasys_lite.instruction import parse
from ofasys_lite.instruction.places import Origin


def card(folder: Path, text: str, name: str = "mine") -> Path:
    path = folder / f"{name}.yaml"
    path.write_bytes(text.encode())
    return path


def message(folder: Path, text: str) -> str:
    with pytest.raises(OfasysError) as caught:
        load_task_card(card(folder, text))
    return str(caught.value)


FULL = """\
# a comment
instruction: |
  [IMAGE:img] what? -> [TEXT:answer,closed_set=answers]
data: {train: train.csv, valid: valid.csv, test: test.csv}
columns: {img: picture}
sets: {answers: [yes, no, 007, ~, 1.0, Null]}
metrics:
  - name: accuracy
    column: answer
    baselines: [majority, question_only]
    references: nearest_pixels
  - chrf
decoding: {beam: 4, length_penalty: 0.6}
weight: [[0, 1], [500, 0.25]]
epochs: 3
group: user
loss_on_words: yes
stream: off
version: 2
reference: a paper
help: |
  Says what is seen.
settings: {own: [1, 2]}
"""


def test_every_key_of_a_card_arrives_with_its_type(tmp_path: Path) -> None:
    found = load_task_card(card(tmp_path, FULL))
    assert found.name == "mine"
    assert found.instruction == "[IMAGE:img] what? -> [TEXT:answer,closed_set=answers]"
    assert found.data == {"train": "train.csv", "valid": "valid.csv", "test": "test.csv"}
    assert found.columns == {"img": "picture"}
    assert found.metrics[0] == MetricSpec("accuracy", "answer", ("majority", "question_only"), ("nearest_pixels",))
    assert found.metrics[1] == MetricSpec("chrf")
    assert found.decoding == {"beam": 4, "length_penalty": 0.6}
    assert found.weight == ((0, 1.0), (500, 0.25))
    assert (found.epochs, found.group, found.version, found.reference) == (3, "user", 2, "a paper")
    assert (found.loss_on_words, found.stream) == (True, False)
    assert (found.help, found.settings) == ("Says what is seen.", {"own": [1, 2]})
    assert found.path == str(tmp_path / "mine.yaml")


def test_labels_are_text_even_where_yaml_says_boolean_number_or_null(tmp_path: Path) -> None:
    found = load_task_card(card(tmp_path, FULL))
    assert found.sets == {"answers": ("yes", "no", "007", "~", "1.0", "Null")}


def test_a_literal_block_keeps_its_columns(tmp_path: Path) -> None:
    path = card(
        tmp_path, "help: x\ninstruction: |\n    [TEXT:a] #1\n\n      |||\n    [TEXT:a,max_lenght=3] -> [TEXT:b]\n"
    )
    found = load_task_card(path)
    assert found.instruction == "[TEXT:a] #1\n\n  |||\n[TEXT:a,max_lenght=3] -> [TEXT:b]"
    assert found.origin == Origin(str(path), line=3, column=5, indent=4)


def test_the_place_of_a_mistake_in_a_block_is_that_of_the_file(tmp_path: Path) -> None:
    path = card(tmp_path, "instruction: |2-\n\n    [TEXT:a]\n   -> [TEXT:b] [TXET:c]\n")
    found = load_task_card(path)
    with pytest.raises(InstructionError) as caught:
        parse(found.instruction, origin=found.origin)
    assert f"{path}:4:17" in str(caught.value)


@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_quoted_line_keeps_its_columns(tmp_path: Path, quote: str) -> None:
    path = card(tmp_path, f"instruction: {quote}draw ${{x}} [TEXT:a] #1 -> [TEXT:b]{quote}  # comment\n")
    found = load_task_card(path)
    assert found.instruction == "draw ${x} [TEXT:a] #1 -> [TEXT:b]"
    assert found.origin == Origin(str(path), 1, 15)


def test_an_escaped_quoted_line_tells_only_its_line(tmp_path: Path) -> None:
    path = card(tmp_path, 'instruction: "say \\"hi\\" [TEXT:a] -> [TEXT:b]"\n')
    found = load_task_card(path)
    assert found.instruction == 'say "hi" [TEXT:a] -> [TEXT:b]'
    assert found.origin == Origin(str(path), 1, 15, exact=False)


def test_an_unquoted_line_is_taken_where_yaml_reads_all_of_it(tmp_path: Path) -> None:
    path = card(tmp_path, "instruction: what is it? [TEXT:a] -> [TEXT:b]   \n")
    found = load_task_card(path)
    assert found.instruction == "what is it? [TEXT:a] -> [TEXT:b]"
    assert found.origin == Origin(str(path), 1, 14)


@pytest.mark.parametrize(
    ("text", "corrected"),
    [
        ("instruction: draw [TEXT:a] #1 -> [TEXT:b]\n", "draw [TEXT:a] #1 -> [TEXT:b]"),
        ("instruction: draw [TEXT:a]\n  -> [TEXT:b]\n", "draw [TEXT:a] -> [TEXT:b]"),
        ("instruction: [IMAGE:img] what? -> [TEXT:cap]\n", "[IMAGE:img] what? -> [TEXT:cap]"),
        ("instruction: [TEXT:a]\n", "[TEXT:a]"),
        ("instruction: a: b [TEXT:a] -> [TEXT:b]\n", "a: b [TEXT:a] -> [TEXT:b]"),
        ("help: x\ninstruction: * [TEXT:a] -> [TEXT:b]\nweight: 1\n", "* [TEXT:a] -> [TEXT:b]"),
        ("instruction: {x} [TEXT:a] -> [TEXT:b]\n", "{x} [TEXT:a] -> [TEXT:b]"),
    ],
)
def test_a_line_that_yaml_eats_is_refused_with_the_corrected_text(tmp_path: Path, text: str, corrected: str) -> None:
    found = message(tmp_path, text)
    number = 1 + text.split("instruction")[0].count("\n")
    assert f"mine.yaml:{number}" in found
    assert f"instruction: |\n          {corrected}" in found


def test_a_hash_in_a_literal_block_is_text(tmp_path: Path) -> None:
    found = load_task_card(card(tmp_path, "instruction: |\n  # [TEXT:a] #1 -> [TEXT:b]\n"))
    assert found.instruction == "# [TEXT:a] #1 -> [TEXT:b]"


@pytest.mark.parametrize("end", ["\r\n", "\r"])
def test_line_ends_of_other_systems_are_read(tmp_path: Path, end: str) -> None:
    path = card(tmp_path, "help: x\ninstruction: |\n  [TEXT:a] -> [TEXT:b]\nweight: 2\n".replace("\n", end))
    found = load_task_card(path)
    assert (found.instruction, found.origin) == ("[TEXT:a] -> [TEXT:b]", Origin(str(path), 3, 3, 2))


LINE = "instruction: |\n  [TEXT:a] -> [TEXT:b]\n"


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("wieght: 2", "3:1", "unknown key `wieght` in task mine\n"),
        ("wieght: 2", "3:1", "did you mean `weight`?"),
        ("weight: heavy", "3:9", "`weight` is `heavy`\n"),
        ("weight: '2'", "3:9", "help: it is a number"),
        ("weight: -1", "3:9", "help: it is at least 0"),
        ("weight: .inf", "3:9", "help: it is a number"),
        ("weight: [[10, 1.0]]", "3:10", "a point of `weight` does not fit"),
        ("weight: [[0, 1.0], [0, 2.0]]", "3:20", "steps rise from 0"),
        ("epochs: 1.5", "3:9", "it is a whole number"),
        ("epochs: 0", "3:9", "it is at least 1"),
        ("stream: perhaps", "3:9", "it is true or false"),
        ("group: [a]", "3:8", "`group` is a list"),
        ("columns: a", "3:10", "`columns` is `a`"),
        ("data: {trian: a.csv}", "3:8", "unknown split `trian` in task mine"),
        ("data: {test_unseen: a.csv}", "3:8", "unknown split `test_unseen` in task mine"),
        ("metrics: [{name: accuracy, options: {digits: 3}}]", "3:28", "unknown key `options` in a metric of task mine"),
        ("sets: {labels: yes}", "3:16", "it is a list of labels: [yes, no]"),
        ("sets: {labels: []}", "3:16", "set `labels` is empty"),
        ("help: a: b", "3:8", "help: a value that holds `: ` stands in quotes"),
        ("---\nweight: 1", "3:1", "help: one card a file"),
        ("sets: {labels: [a, a]}", "3:16", "label `a` stands twice"),
        ("metrics: [{nam: accuracy}]", "3:12", "did you mean `name`?"),
        ("decoding: beam", "3:11", "`decoding` is `beam`"),
        ("help: a\nhelp: b", "4:1", "key `help` stands twice"),
        ("name: other", "3:7", "leave `name` out"),
        ("\tweight: 1", "3:1", "indent with spaces, not tabs"),
        ("weight: 1\n   epochs: 2", "4:10", "help: indent it as the key above it"),
    ],
)
def test_a_mistake_in_a_card_is_shown_at_its_place(tmp_path: Path, text: str, place: str, expected: str) -> None:
    found = message(tmp_path, LINE + text + "\n")
    assert f"mine.yaml:{place}\n" in found
    assert expected in found


def test_a_line_that_is_not_indented_below_its_key_is_shown(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("instruction: |\n[TEXT:q] -> [TEXT:a]\ndata: a.csv\n")
    with pytest.raises(CardError) as caught:
        load_task_card(tmp_path / "mine.yaml")
    assert "the line below `instruction: |` is not indented\n" in str(caught.value)
    assert "mine.yaml:2:1\n" in str(caught.value)
    assert caught.value.help == "write `  [TEXT:q] -> [TEXT:a]`"


def test_all_mistakes_of_a_card_come_at_once(tmp_path: Path) -> None:
    with pytest.raises(ErrorGroup) as caught:
        load_task_card(card(tmp_path, "weight: x\nepochs: y\nunknown: z\n"))
    assert len(caught.value.errors) == 4
    assert "4 errors" in str(caught.value)
    assert "has no `instruction`" in str(caught.value)


def test_a_card_that_is_no_mapping_not_utf8_or_missing_is_refused(tmp_path: Path) -> None:
    assert "task mine is a list" in message(tmp_path, "- a\n")
    path = tmp_path / "bytes.yaml"
    path.write_bytes(b"help: \xff\n")
    with pytest.raises(CardError, match=r"not UTF-8 \(byte 6\)"):
        load_task_card(path)
    with pytest.raises(CardError, match="no such file"):
        load_task_card(tmp_path / "none.yaml")
    assert "a key must be a word" in message(tmp_path, "? [a]\n: b\n")


def test_a_card_that_holds_itself_is_refused(tmp_path: Path) -> None:
    assert "nested too deeply" in message(tmp_path, LINE + "settings: &x {again: *x}\n")


def test_a_card_from_plain_values_needs_no_file() -> None:
    found = load_task_card({"name": "mine", "instruction": "[TEXT:a] -> [TEXT:b]", "sets": {"s": [True, 1, "x"]}})
    assert (found.name, found.path, found.origin) == ("mine", "", Origin())
    assert found.sets == {"s": ("true", "1", "x")}
    with pytest.raises(CardError, match="task x: `weight` is `a`"):
        load_task_card({"instruction": "-> [TEXT:b]", "weight": "a"}, name="x")
    with pytest.raises(CardError, match="needs a name"):
        load_task_card({"instruction": "-> [TEXT:b]"})
    with pytest.raises(CardError, match="one line of text"):
        load_task_card({"instruction": 3}, name="x")


def test_what_a_run_does_not_change_keeps_its_place(tmp_path: Path) -> None:
    path = card(tmp_path, LINE + "weight: 2\nsets: {s: [yes, no]}\n")
    content = {"instruction": "[TEXT:a] -> [TEXT:b]\n", "weight": "much", "sets": {"s": ["yes", "no"]}, "epochs": 2}
    with pytest.raises(CardError, match="task mine: `weight` is `much`"):
        load_task_card(path, overrides=content)
    found = load_task_card(path, overrides={**content, "weight": 3})
    assert (found.weight, found.epochs, found.sets) == (3, 2, {"s": ("yes", "no")})
    assert found.origin == Origin(str(path), 2, 3, 2)
    assert plain(overlay(read_yaml(path), {"weight": 5})) == {"weight": 5}


def test_a_card_is_found_by_name_and_a_near_name_is_offered(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    path = card(tmp_path / "tasks", LINE, "caption_of_mine")
    assert find_card("tasks", "caption_of_mine", [tmp_path]) == path
    with pytest.raises(CardError, match="did you mean `caption_of_mine`"):
        find_card("tasks", "captoin_of_mine", [tmp_path])
    with pytest.raises(CardError, match="no such folder"):
        find_card("tasks", "x", [tmp_path / "none"])


def test_a_name_in_two_places_is_refused_with_both(tmp_path: Path) -> None:
    for each in ("one", "two"):
        (tmp_path / each / "tasks").mkdir(parents=True)
        card(tmp_path / each / "tasks", LINE)
    folders = [tmp_path / "one", tmp_path / "two"]
    expected = f"tasks/mine is ambiguous: {folders[0]}/tasks/mine.yaml and {folders[1]}/tasks/mine.yaml"
    with pytest.raises(CardError) as caught:
        find_card("tasks", "mine", folders)
    assert expected in str(caught.value)
    assert find_card("tasks", "mine", [folders[0], folders[0]]).parent.parent == folders[0]


def test_a_users_modality_stands_beside_ours_and_may_not_take_its_name(tmp_path: Path) -> None:
    (tmp_path / "modalities").mkdir()
    text = "name: SENSOR\naliases: [PROBE]\npreprocess: my.Preprocess\nadapter: my.Adapter\n"
    path = card(tmp_path / "modalities", text, "sensor")
    found = modalities([tmp_path])
    assert found["PROBE"] is found["SENSOR"]
    assert found["BOUNDING_BOX"] is found["BOX"]
    assert modality(found, "SENSOR").writes == "never"
    with pytest.raises(CardError, match="did you mean `SENSOR`"):
        modality(found, "SENSRO")
    path.write_text(text.replace("SENSOR", "IMAGE"))
    with pytest.raises(CardError, match="modality IMAGE is ambiguous"):
        modalities([tmp_path])


def test_cards_that_are_called_or_lie_otherwise_are_named(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "mine.yml").write_text(LINE)
    (tmp_path / "loose.yaml").write_text(LINE)
    with pytest.raises(CardError, match="no cards of tasks") as told:
        own_task_names([tmp_path])
    assert "mine.yml" in told.value.help
    assert "loose.yaml" in told.value.help


def test_a_card_that_lies_here_unnamed_is_pointed_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "mine.yaml").write_text("instruction: '[TEXT:q] -> [TEXT:a]'\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CardError, match="no card for task `mine`") as caught:
        find_task("mine")
    assert "mine.yaml lies here: `check` and `explain` take its path, all take tasks=[mine] data.cards=." in str(
        caught.value.help
    )
    assert find_task("mine", ["."]).instruction
