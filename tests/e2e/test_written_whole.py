"""A modality from a folder outside the package is written all at once, in several passes: flow matching on its rows.

It is trained, judged, shown, predicted to files, exported and loaded by the commands, and nothing inside is edited.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from users_folder import users_folder

from ofasys_lite import GeneralistModel, evaluate
from ofasys_lite.cards import load_task_card, modalities
from ofasys_lite.commands.app import main
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.errors import CardError, OfasysError
from ofasys_lite.generalist.predicting import predict
from ofasys_lite.generalist.prediction import Request
from ofasys_lite.plan import build_plan
from ofasys_lite.report import load_results

CARD = """
name: WAVE
preprocess: wave_parts.WavePreprocess
adapter: wave_parts.WaveAdapter
reads: never
writes: now
metric: wave_parts.distance
losses:
  flow: {side: target, unit: frame, objective: wave_parts.Flow, standard: true, together: true}
writers:
  flow:
    steps: {type: int, low: 1, high: 100, default: 8, help: "passes of the decoder"}
    noise: {type: float, low: 0, default: 1.0, help: "deviation of what it starts from"}
    cfg: {type: float, low: 0, high: 10, default: 1.0, help: "guidance"}
"""

MODULE = '''
"""WAVE: as many numbers as the setting says, a row each; learned and written by flow matching (arXiv 2210.02747)."""

import numpy as np
import torch
from torch import nn

from ofasys_lite.adapters.base import Adapter, Reading
from ofasys_lite.adapters.passes import Written
from ofasys_lite.errors import DataError
from ofasys_lite.layout.learned import Objective
from ofasys_lite.plan.constraints import Whole
from ofasys_lite.preprocess import kinds
from ofasys_lite.preprocess.base import Piece, Preprocess, line_positions
from ofasys_lite.preprocess.kinds import Shown

ROWS = 6


class WavePreprocess(Preprocess):
    kind = kinds.NUMBERS
    ending = ".wave"
    fixed_rows = ROWS

    def encode(self, value, options, known):
        return Piece(self.context.adapter, line_positions(ROWS), {"wave": wave_of(value)})

    def constraint(self, options, known):
        return Whole(self.context.adapter, tuple(map(tuple, line_positions(ROWS).tolist())))

    def decode(self, wave, options, known):
        return wave

    @classmethod
    def read(cls, value, options, folder=None):
        return wave_of(value)

    def show(self, value):
        heights = np.clip(10 + 4 * wave_of(value), 0, 20)
        bars = np.arange(20)[::-1, None] < heights.repeat(5)
        picture = np.where(bars[..., None], 90, 250).repeat(3, 2).astype(np.uint8)
        return Shown("ends at %.1f" % wave_of(value)[-1], picture)

    def brief(self, value):
        return f"<wave of {len(value)}>"

    def save(self, value, ending):
        return "".join(f"{x:.6f}\\n" for x in value).encode()


def wave_of(value):
    wave = np.array(value, dtype=np.float32)
    if wave.shape != (ROWS,):
        raise DataError(f"a wave has {ROWS} numbers, this has the shape {wave.shape}")
    return wave


def distance(predictions, references):
    return [float(np.abs(a - b).mean()) for a, b in zip(predictions, references)]


distance.higher_is_better = False


class Flow(Objective):
    """All rows, on the way from noise to the value at a time that the sample's generator draws."""

    def prepare(self, piece, read, rng):
        rng = np.random.default_rng(0) if rng is None else rng
        time, noise = rng.random(), rng.normal(size=ROWS)
        fed = (1 - time) * noise + time * piece.arrays["wave"]
        arrays = {"fed": fed.astype(np.float32), "time": np.full(ROWS, time, np.float32)}
        velocity = (piece.arrays["wave"] - noise).astype(np.float32)
        return Piece(piece.adapter, piece.positions_P3, arrays), {"velocity": velocity}


class WaveAdapter(Adapter):
    def __init__(self, settings, shared):
        super().__init__(settings, shared)
        self.inner = nn.Sequential(nn.Linear(2, shared.width), nn.GELU(), nn.Linear(shared.width, shared.width))
        self.back = nn.Linear(shared.width, 1)

    def embed(self, part):
        return self.inner(torch.stack([part.arrays["fed"], part.arrays["time"]], -1))

    def objectives(self):
        return {"flow": self.flow}

    def flow(self, rows, encoded):
        return Reading(lambda states: (self.back(states[rows.rows_R])[:, 0] - rows.arrays["velocity"]) ** 2)

    def write(self, sources, asked):
        steps, noise, cfg = (*asked[0].settings.values(), asked[0].options.cfg)
        decoders = [(sources.passes(asked), cfg)]
        if asked[0].options.guided:
            decoders.append((sources.passes(asked, emptied=True), 1 - cfg))
        x_NL = noise * torch.from_numpy(np.stack([each.rng().normal(size=ROWS) for each in asked])).float()
        for step in range(steps):
            fed = self.inner(torch.stack([x_NL, torch.full_like(x_NL, step / steps)], -1))
            x_NL = x_NL + sum(share * self.back(states(fed))[..., 0] for states, share in decoders) / steps
        return [Written(x_L.numpy()) for x_L in x_NL]
'''
WAVES = {"up": [-2, -1, -0.5, 0.5, 1, 2], "down": [2, 1, 0.5, -0.5, -1, -2], "hill": [-2, 0, 2, 2, 0, -2]}
LINE = "draw [TEXT:name,drop=0.1] -> [WAVE:wave,decode=flow(steps=6)]"
TRAIN = [
    *(
        "train",
        "name=w",
        "model=tiny",
        "model.width=48",
        "model.ffn=96",
        "steps=200",
        "tasks=[waves,ways]",
        "--config-dir",
        ".",
    ),
    *(
        "evaluate=false",
        "trainer.lr=1e-2",
        "trainer.samples_per_step=16",
        "trainer.valid_every=0.04",
        "trainer.ema=0.9",
        "trainer.log_every=50",
    ),
    *("trainer.workers=0", "trainer.threads=1", "+trainer.progress=false", "data.pieces=300"),
]
#: What a new process says of an export: values by task, options in a call.
LOADED = """
import json, sys
from ofasys_lite import GeneralistModel
model = GeneralistModel.from_pretrained(sys.argv[1])
found = [model("waves", name=name, seed=3, steps=4).values["wave"].tolist() for name in ("up", "down")]
print(json.dumps([*found, model("ways", name="hill").text]))
"""


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user's folder, in which he works: the modality's card and module, two tasks, their rows."""
    rng = np.random.default_rng(0)
    with (
        pytest.MonkeyPatch.context() as patch,
        users_folder(tmp_path_factory.mktemp("waves"), patch, "wave", CARD, "wave_parts", MODULE) as folder,
    ):
        patch.chdir(folder)
        patch.setenv("OFASYS_CACHE", str(folder / "cache"))
        rows = []
        for number in range(96):
            name = list(WAVES)[number % 3]
            wave = (np.array(WAVES[name]) + rng.normal(size=6) / 20).round(3).tolist()
            rows.append({"id": str(number), "name": name, "wave": wave, "way": name[::-1]})
        (folder / "waves.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "tasks").mkdir()
        for task, line in (("waves", LINE), ("ways", "[TEXT:name] backwards -> [TEXT:way,closed_set]")):
            card = {"instruction": line, "data": {"train": "waves.jsonl"}}
            # in the place of the line's own
            card |= {"decoding": {"steps": 5}} if task == "waves" else {}
            (folder / "tasks" / f"{task}.yaml").write_text(yaml.safe_dump(card))
        yield folder


@pytest.fixture(scope="module")
def run(outside: Path) -> Path:
    """The run in which both tasks were trained."""
    assert main(TRAIN) == 0
    return outside / "runs" / "w"


def nearest(wave: Any) -> str:
    """The name of the wave that this is most like."""
    return min(WAVES, key=lambda name: float(np.abs(np.array(wave) - WAVES[name]).mean()))


def test_it_is_trained_and_validated_beside_text(run: Path) -> None:
    history = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    valid = [r["loss"] for r in history if (r["kind"], r.get("task")) == ("valid", "waves")]
    assert len(valid) >= 2
    assert valid[-1]["wave"] < valid[0]["wave"]
    model = GeneralistModel.from_pretrained(run)
    assert model("ways", name="down").text == "nwod"
    assert [nearest(model("waves", name=name, seed=5).value) for name in WAVES] == list(WAVES)


def test_it_is_judged_and_shown_in_the_report(run: Path) -> None:
    assert main(["evaluate", "run=runs/w", "bootstrap=20", "samples=3", "seen=keep"]) == 0
    results = load_results(run / "evaluation.json")
    task = next(task for task in results.tasks if task.task == "waves")
    assert task.metric.name == "wave_parts.distance"
    assert task.metric.value < 0.5
    assert [b.name for b in task.baselines] == ["majority"]
    page = (run / "report.html").read_text()
    assert page.count("ends at") >= 6  # of the data and predicted
    assert page.count('<img class="shot"') >= 6
    assert (run / "samples" / "waves.png").is_file()


def test_it_is_predicted_to_files(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["predict", "runs/w", "waves", "name=up"]
    assert main(command) == 1
    assert "`wave` is written to a .wave file, and no file is named for it" in capsys.readouterr().err
    assert main([*command, "seed=3", "steps=4", "--out", "up"]) == 0
    assert capsys.readouterr().out == "<wave of 6>\n"
    assert nearest([float(x) for x in Path("up.wave").read_text().split()]) == "up"
    assert main(["predict", "runs/w", "waves", "--data", "waves.jsonl", "--limit", "3", "--out", "all.jsonl"]) == 0
    files = [json.loads(line)["wave"] for line in Path("all.jsonl").read_text().splitlines()]
    assert [nearest([float(x) for x in Path(name).read_text().split()]) for name in files] == list(WAVES)


def test_its_export_says_the_same_in_a_new_process(run: Path, tmp_path: Path) -> None:
    model = GeneralistModel.from_pretrained(run)
    model.save_pretrained(tmp_path / "export")
    found = subprocess.run([sys.executable, "-c", LOADED, tmp_path / "export"], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    *waves, text = json.loads(found.stdout)
    assert text == "llih"
    mine = [model("waves", name=name, seed=3, steps=4).values["wave"] for name in ("up", "down")]
    np.testing.assert_allclose(waves, mine, atol=1e-5)


def test_a_sample_does_not_depend_on_what_it_is_written_with(run: Path) -> None:
    model = GeneralistModel.from_pretrained(run).generalist
    options = model.entry("waves").options
    asked = [Request("waves", {"name": name}, str(n), options(seed=n)) for n, name in enumerate(list(WAVES) * 2)]
    asked.append(Request("ways", {"name": "up"}, "t"))
    found = predict(model, asked)
    (alone,) = predict(model, asked[4:5])
    (other,) = predict(model, [Request("waves", asked[4].row, "4", options(seed=99))])
    waves = [np.array(each.values["wave"]) for each in (found[4], alone, other) if each is not None]
    np.testing.assert_allclose(waves[0], waves[1], atol=1e-4)
    assert np.abs(waves[2] - waves[1]).max() > 1e-4


def test_options_of_its_writer_are_given_wherever_those_of_the_package_are(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = GeneralistModel.from_pretrained(run)

    def wave(*arguments: str, **options: Any) -> Any:
        if not arguments:
            return model("waves", name="hill", **options).values["wave"]
        out = ["--out", "one.wave", "--overwrite"]
        assert main(["predict", "runs/w", "waves", "name=hill", *arguments, *out]) == 0
        return [float(x) for x in Path("one.wave").read_text().split()]

    held, one = wave(), wave(steps=1, noise=0)
    # the line says 6, the task's card 5, which `evaluate` takes too
    options = model.generalist.entry("waves").options
    assert options() == DecodeOptions("flow", settings=(("steps", 5), ("noise", 1.0)))
    (judged,) = evaluate(model, "waves", limit=1, seen="keep").tasks[0].samples
    row = {slot.column: slot.value for slot in judged.inputs}
    (five,) = predict(model.generalist, [Request("waves", row, judged.id, options(steps=5))])
    assert five is not None
    np.testing.assert_allclose(judged.prediction, five.values["wave"], atol=1e-5)
    np.testing.assert_allclose(wave(steps=5), held, atol=1e-5)
    for options in ({"steps": 6}, {"noise": 0.5}, {"cfg": 3}, {"seed": 1}):
        assert np.abs(wave(**options) - held).max() > 1e-3, options
    np.testing.assert_allclose(wave("steps=1", "decoding.noise=0"), one, atol=1e-5)
    (row,) = model.predict("waves", [{"name": "hill"}], steps=1, noise=0)
    np.testing.assert_allclose(row.values["wave"], one, atol=1e-5)


#: Options of the writer -> what is told of them.
WRONG = {
    "step": (4, "did you mean `steps`"),
    "steps": (0, "steps is 0\n  help: allowed: whole numbers 1 to 100; passes of the decoder"),
    "noise": (-1.0, "noise is -1.0"),
    "beam": (3, "method, steps, noise, cfg, seed"),
    "method": ("flwo", "did you mean `flow`"),
}


@pytest.mark.parametrize("name", list(WRONG))
def test_wrong_options_of_its_writer_are_told_wherever_they_are_given(
    run: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    value, told = WRONG[name]
    model = GeneralistModel.from_pretrained(run)
    for call in (
        lambda: model("waves", **{"name": "up", name: value}),
        lambda: model.predict("waves", [{"name": "up"}], **{name: value}),
    ):
        with pytest.raises(OfasysError) as caught:
            call()
        assert told in str(caught.value)
    card = load_task_card({"instruction": LINE, "decoding": {name: value}}, name="waves")
    with pytest.raises(CardError, match="task waves: decoding: ") as raised:
        build_plan(card, modalities([Path()]))
    assert told in str(raised.value)
    for command in (
        ["predict", "runs/w", "waves", "name=up", f"{name}={value}", "--out", "x"],
        ["predict", "runs/w", "waves", "name=up", f"decoding.{name}={value}", "--out", "x"],
        [*TRAIN, "name=x", f"+tasks.waves.decoding.{name}={value}"],
    ):
        assert main(command) == 1
        assert told in capsys.readouterr().err
    assert not Path("x").exists()
