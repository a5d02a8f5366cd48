"""AUDIO as a target: tones by their names, learned by flow and by diffusion, written to sound, judged, exported."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tiny_worlds as worlds
import torch

from ofasys_lite.cards import load_task_card, modalities
from ofasys_lite.errors import CardError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import Request, predict
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.ready import DataSettings, Ready, make_ready
from ofasys_lite.metrics import evaluate_metric
from ofasys_lite.plan import build_plan
from ofasys_lite.preprocess.audio_features import FrameSettings, log_mel
from ofasys_lite.preprocess.vocoder import griffin_lim
from ofasys_lite.report.validation import Validator
from ofasys_lite.run.run_folder import RunFolder

RATE = 8000
#: Name -> (Hz, seconds).
TONES = {"low": (300, 0.15), "middle": (900, 0.25), "high": (2500, 0.4)}
FLOW = "play [TEXT:name,drop=0.1] -> [AUDIO:wav]"
DIFFUSION = "sing [TEXT:name,drop=0.1] -> [AUDIO:wav,loss=diffusion(steps=50,target=v)]"
SETTINGS = {"sample_rate": RATE, "mels": 20, "frames_per_row": 4, "max_seconds": 0.5}
DATA = DataSettings(pieces=300, bins=32, modalities={"AUDIO": SETTINGS})


def tone(name: str, seed: int = 0) -> tuple[Any, int]:
    hertz, seconds = TONES[name]
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * RATE)) / RATE
    wave = 0.3 * np.sin(2 * np.pi * hertz * times + rng.random()) + rng.normal(0, 0.003, len(times))
    return wave.astype(np.float32), RATE


def rows(count: int = 48) -> list[dict[str, Any]]:
    return [{"id": str(i), "name": (name := list(TONES)[i % 3]), "wav": tone(name, i)} for i in range(count)]


def cards(*lines: str) -> list[Any]:
    held = {"train": rows(), "valid": rows()[:6], "test": rows()[:6]}
    return [worlds.task(f"t{i}", held, line=line) for i, line in enumerate(lines)]


def prepared(*lines: str) -> Ready:
    return make_ready(cards(*lines), modalities(), DATA)


def pitch(value: Any) -> str:
    """The tone whose frequency is strongest in a sound."""
    samples, rate = value
    spectrum = np.abs(np.fft.rfft(samples))
    hertz = np.fft.rfftfreq(len(samples), 1 / rate)[int(spectrum.argmax())]
    return min(TONES, key=lambda name: abs(np.log(max(hertz, 1) / TONES[name][0])))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Generalist, Path]:
    """A model that plays by flow (`t0`) and by diffusion (`t1`)."""
    folder = tmp_path_factory.mktemp("sound") / "run"
    more = {"steps": 260, "samples_per_step": 12, "lr": 1e-2, "ema": 0.9, "data": DATA, "model": {"width": 48}}
    return worlds.run(cards(FLOW, DIFFUSION), folder, **more), folder


def heard(model: Generalist, task: str, **options: Any) -> list[Any]:
    given = model.entry(task).options(**options)
    found = predict(model, [Request(task, {"name": name}, name, given) for name in TONES])
    return [each.values["wav"] for each in found if each is not None]


@pytest.mark.parametrize("task", ["t0", "t1"])
def test_tones_are_played_in_their_pitch_and_length(run: tuple[Generalist, Path], task: str) -> None:
    found = heard(run[0], task, steps=12, seed=1)
    assert [pitch(value) for value in found] == list(TONES)
    seconds = [len(samples) / rate for samples, rate in found]
    assert seconds == pytest.approx([s for _, s in TONES.values()], abs=0.06)
    others = heard(run[0], task, steps=12, seed=2)
    assert not np.array_equal(found[0][0], others[0][0])
    again = heard(run[0], task, steps=12, seed=1)
    np.testing.assert_array_equal(found[2][0], again[2][0])


def test_a_sample_does_not_depend_on_what_it_is_written_with(run: tuple[Generalist, Path]) -> None:
    model, _ = run
    options = model.entry("t0").options(steps=4)
    asked = [Request("t0", {"name": name}, str(n), options) for n, name in enumerate([*TONES, *TONES])]
    together, (alone,) = predict(model, asked), predict(model, asked[4:5])
    assert together[4] is not None
    assert alone is not None
    np.testing.assert_allclose(together[4].values["wav"][0], alone.values["wav"][0], atol=2e-3)


def test_guidance_of_one_is_none_and_more_is_not(run: tuple[Generalist, Path]) -> None:
    plain, one, more = (heard(run[0], "t0", steps=4, **given)[1][0] for given in ({}, {"cfg": 1.0}, {"cfg": 3.0}))
    np.testing.assert_array_equal(plain, one)
    assert np.abs(one[: len(more)] - more[: len(one)]).max() > 1e-3


def test_new_noise_is_for_diffusion(run: tuple[Generalist, Path]) -> None:
    with pytest.raises(CardError, match="`eta` is for diffusion"):
        heard(run[0], "t0", eta=0.5)
    plain, fresh = heard(run[0], "t1", steps=6)[0][0], heard(run[0], "t1", steps=6, eta=1.0)[0][0]
    assert np.abs(plain[: len(fresh)] - fresh[: len(plain)]).max() > 1e-3


def test_it_is_validated_and_exported(run: tuple[Generalist, Path]) -> None:
    model, folder = run
    Validator(RunFolder(folder), samples=6)(model, 260, 0.0)
    valid = {r["task"]: r for r in RunFolder(folder).history() if r["kind"] == "valid"}
    assert set(valid["t0"]["loss"]) == {"wav", "wav:length"}
    (task,) = prepared(FLOW).tasks
    batch = collate([task.maker.example(row, row["id"], None, False) for row in rows()[:6]])
    goal = next(found.arrays["goal"] for found in batch.losses if found.objective.name == "flow")
    assert valid["t0"]["loss"]["wav"] < 0.45 * np.mean(goal**2)  # the cost of saying nothing
    loaded = Generalist.from_pretrained(folder)
    assert worlds.equal(worlds.weights(model), worlds.weights(loaded))
    np.testing.assert_array_equal(heard(loaded, "t0", steps=3)[1][0], heard(model, "t0", steps=3)[1][0])
    tool = next(t for t in loaded.maker("t0").preprocess.values() if t.ending == ".wav")
    samples, rate = soundfile.read(io.BytesIO(tool.save(heard(loaded, "t0", steps=3)[1], ".wav")))
    assert rate == RATE
    assert len(samples) > 800


@pytest.mark.parametrize("line", [FLOW, DIFFUSION.replace("target=v", "target=eps")])
def test_packed_and_one_by_one_is_the_same(line: str) -> None:
    (task,) = prepared(line).tasks
    model = worlds.generalist(prepared(line))
    torch.nn.init.normal_(model.network.get_parameter("adapters.audio:audiowriter.denoiser.out.weight"))
    one, many = (worlds.gradients(model, task, rows(), p) for p in ([range(9)], [[i] for i in range(9)]))
    assert one.keys() == many.keys()
    heads = [n for n in one if "denoiser" in n]
    assert all(one[n].abs().max() > 1e-7 for n in heads), heads
    for name, value in one.items():
        torch.testing.assert_close(many[name], value, rtol=2e-4, atol=2e-6, msg=name)


def test_noise_is_a_function_of_the_sample_alone() -> None:
    (task,) = prepared(FLOW).tasks

    def fed(seed: int | None) -> Any:
        rng = None if seed is None else np.random.default_rng(seed)
        (target, length) = task.maker.example(rows()[2], "2", rng, seed is not None).targets
        (asked,) = length.learned
        assert asked.arrays["labels"].tolist() == [target.pieces[0].count]
        return target.pieces[0].arrays["values"]

    np.testing.assert_array_equal(fed(3), fed(3))
    np.testing.assert_array_equal(fed(None), fed(None))
    assert np.abs(fed(3) - fed(4)).max() > 0.1


def test_log_mel_frames_become_sound_again() -> None:
    settings = FrameSettings(RATE, 40)
    for name in TONES:
        samples, _ = tone(name)
        made = griffin_lim(log_mel(samples, settings), settings)
        assert pitch((made, RATE)) == name
        assert 0 < len(samples) - len(made) < settings.window + settings.hop
        # as loud as it was
        assert np.sqrt(np.mean(made**2)) == pytest.approx(np.sqrt(np.mean(samples**2)), rel=0.3)


def test_a_vocoder_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_vocoder.py").write_text(
        "import numpy as np\ndef vocode(frames, settings):\n    return np.full(len(frames) * settings.hop, 0.25)\n"
        "def broken(frames, settings):\n    return np.zeros((2, 2))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name, told in (("vocode", ""), ("broken", "gave an array of shape (2, 2)"), ("brokn", "did you mean `broken`")):
        given = DataSettings(pieces=300, bins=32, modalities={"AUDIO": {**SETTINGS, "vocoder": f"my_vocoder.{name}"}})
        (task,) = make_ready(cards(FLOW), modalities(), given).tasks
        tool = next(t for t in task.maker.preprocess.values() if t.ending == ".wav")
        if told:
            with pytest.raises(CardError, match=told.replace("(", r"\(").replace(")", r"\)")):
                tool.decode(np.zeros((3, 80), np.float32), (), None)  # type: ignore[arg-type]
        else:
            samples, rate = tool.decode(np.zeros((3, 80), np.float32), (), None)  # type: ignore[arg-type]
            assert (len(samples), rate, set(samples.tolist())) == (12 * 80, RATE, {0.25})


@pytest.mark.parametrize("more", ["", ",preprocess=audio_fbank", ",adaptor=audio_fbank", ",adaptor=audio_tgt_fbank"])
def test_names_of_ofasys_mean_what_is_written(more: str) -> None:
    line = f"[TEXT:name] -> [AUDIO:wav{more}]"
    (slot,) = build_plan(load_task_card({"instruction": line}, name="t"), modalities()).target_slots()
    assert slot.preprocess.endswith("AudioWriting")
    assert slot.adapter.endswith("AudioWriter")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("[AUDIO:wav,adaptor=audio_tgt_fbank] -> [TEXT:name]", "`audio_tgt_fbank` is for AUDIO that is written"),
        ("[TEXT:name] -> [AUDIO:wav,n_frames_per_step=2]", "rows of AUDIO hold 4 frames"),
        ("[TEXT:name] -> [AUDIO:wav,loss=diffusion(target=x1)]", "`target` of diffusion cannot be `x1`"),
        ("[TEXT:name] -> [AUDIO:wav,loss=diffusion(step=3)]", "did you mean `steps`"),
        ("[TEXT:name] -> [AUDIO:wav,decode=denoise(steps=0)]", "passes of the decoder"),
        ("[TEXT:name] -> [AUDIO:wav,decode=greedy]", "denoise"),
        ("[TEXT:name] -> [AUDIO:wav] [TEXT:name]", "AUDIO"),
    ],
)
def test_what_a_line_cannot_ask_for(line: str, told: str) -> None:
    with pytest.raises(Exception, match=r"(?s).*") as caught:
        prepared(line)
    assert told in str(caught.value)


def test_mel_cepstral_distortion() -> None:
    references = [tone(name, 1) for name in TONES]
    same = evaluate_metric("mcd", [tone(name, 2) for name in TONES], references)
    other = evaluate_metric("mcd", references[1:] + references[:1], references)
    none = evaluate_metric("mcd", [None, b"", "no.wav"], references)
    assert same.value < 0.6 * other.value
    assert other.value < none.value == 40.0
    assert not same.higher_is_better
