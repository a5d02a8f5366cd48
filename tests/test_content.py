"""Every content file: cards load and plan, lines parse, presets compose, named classes exist."""

import importlib
from pathlib import Path

import pytest
from run_configs import load_run_config

from ofasys_lite.cards import find_task, instruction_lines, load_modality_card, load_task_card, modalities, task_names
from ofasys_lite.cards.find import content_folder
from ofasys_lite.cards.yaml_nodes import read_yaml
from ofasys_lite.commands.compose import compose
from ofasys_lite.instruction import Origin, parse, unparse
from ofasys_lite.metrics import baseline_names, find_metric, metric_names
from ofasys_lite.plan.build import build_plan

MINE = ("tasks.mine.instruction=[TEXT:q] -> [TEXT:a]", "tasks.mine.data.train=qa.csv")
LINES = [line for path in sorted(content_folder("instructions").glob("*.txt")) for line in instruction_lines(path)]
MODALITIES = sorted(content_folder("modalities").glob("*.yaml"))
PRESETS = sorted(content_folder("presets").glob("*/*.yaml"))


def preset_name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


@pytest.mark.parametrize("name", task_names())
def test_a_task_card_loads_and_plans(name: str) -> None:
    card = find_task(name)
    plan = build_plan(card, modalities())
    assert not plan.cannot_train
    assert not plan.notes
    assert card.data.get("train")
    assert card.metrics, "our own cards say how they are judged"
    assert card.metrics[0].baselines, "the headline of our own cards is held against a trivial baseline"
    for metric in card.metrics:
        find_metric(metric.name)
        assert set(metric.baselines) | set(metric.references) <= set(baseline_names())
        assert not metric.column or metric.column in plan.judged()


@pytest.mark.parametrize("name", task_names())
def test_the_line_of_a_card_stands_in_a_literal_block(name: str) -> None:
    card = find_task(name)
    item = read_yaml(Path(card.path)).get("instruction")
    assert item is not None
    assert item.style == "|"
    tree = parse(card.instruction, types=frozenset(modalities()))
    assert parse(unparse(tree), types=frozenset(modalities())) == tree


@pytest.mark.parametrize("line", LINES, ids=lambda line: f"{Path(line[1].file).stem}:{line[1].line}")
def test_a_line_of_the_library_plans(line: tuple[str, Origin]) -> None:
    card = load_task_card({"instruction": line[0]}, name="line")
    build_plan(card, modalities())


@pytest.mark.parametrize("path", MODALITIES, ids=lambda path: path.stem)
def test_a_modality_card_names_classes_that_exist(path: Path) -> None:
    card = load_modality_card(path)
    assert card.name == path.stem.upper()
    paths = {*card.preprocess.values(), *card.adapter.values()} - {""}
    assert bool(paths) == ("now" in (card.reads, card.writes))
    for dotted in paths:
        module, _, name = dotted.rpartition(".")
        if name == "TimmAdapter":
            pytest.importorskip("timm")
        assert isinstance(getattr(importlib.import_module(module), name), type)
    if card.writes == "now":
        assert card.metric in metric_names()
    else:
        assert not card.metric


@pytest.mark.parametrize("path", PRESETS, ids=preset_name)
def test_a_preset_composes(path: Path) -> None:
    group, name = path.parent.name, path.stem
    own = () if group == "experiment" and read_tasks(path) else MINE
    choice = f"{group}=[{name}]" if group == "logger" else f"{group}={name}"
    run = load_run_config([choice, *own])
    assert run.settings.model.width == compose("train", [choice, *own])["model"]["width"]
    assert run.tasks


def read_tasks(path: Path) -> bool:
    defaults = read_yaml(path).get("defaults")
    items = [] if defaults is None else [{k.text: v for k, v in each.pairs()} for each in defaults.value]
    return any(each["override /tasks"].value for each in items if "override /tasks" in each)


@pytest.mark.parametrize("path", sorted(content_folder("presets").glob("model/*.yaml")), ids=preset_name)
def test_the_header_of_a_model_preset_tells_its_true_cost(path: Path) -> None:
    from ofasys_lite.model.work import parameters

    text = path.read_text(encoding="utf-8")
    run = load_run_config([f"model={path.stem}", *MINE])
    millions = parameters(run.settings.model) / 1e6
    assert f"# {millions:.1f} M parameters" in text
    assert "GFLOPs" in text
    assert "Result:" in text


def test_every_trainer_preset_has_the_same_keys() -> None:
    keys = [set(compose("train", [f"trainer={name}", *MINE])["trainer"]) for name in ("cpu", "gpu", "ddp")]
    assert keys[0] == keys[1] == keys[2]


def test_evaluate_composes() -> None:
    assert compose("evaluate", ["run=runs/x"])["split"] == "test"
