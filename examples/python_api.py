"""Two tasks from rows in memory: train one model on both, use it, evaluate it, save it.

About half a minute on one CPU core: python examples/python_api.py
"""

import random
from pathlib import Path

from PIL import Image

from ofasys_lite import GeneralistModel, Task, evaluate, fit

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 60), "blue": (30, 60, 200), "grey": (128, 128, 128)}


def patch(name: str, rng: random.Random) -> Image.Image:
    """A square of about that colour."""
    return Image.new("RGB", (16, 16), tuple(v + rng.randint(-25, 25) for v in COLOURS[name]))


def tasks(count: int = 400) -> list[Task]:
    """Naming a colour, and spelling a word backwards."""
    rng = random.Random(0)
    colours = [{"img": patch(name, rng), "name": name} for name in list(COLOURS) * (count // 4)]
    words = ["".join(rng.choices("abcd", k=3)) for _ in range(count)]
    colour = Task("colour", "[IMAGE:img] which colour is it? -> [TEXT:name,closed_set]", metrics="accuracy")
    colour.add_dataset(colours)
    # drawn twice as often as `colour`
    line = "[TEXT:word] backwards -> [TEXT:answer]"
    reverse = Task("reverse", line, weight=2, metrics="exact_match", decoding={"max_length": 6})
    reverse.add_dataset([{"word": word, "answer": word[::-1]} for word in words])
    return [colour, reverse]


def main(steps: int = 400, folder: Path = Path("runs/python_api")) -> GeneralistModel:
    """The trained model."""
    model = GeneralistModel("tiny", width=64)
    fit(model, tasks(), steps=steps, folder=folder, samples_per_step=32, lr=3e-3, pieces=400, workers=0)

    print(model("colour", img=patch("blue", random.Random(1))).text)
    print(model("[TEXT:word] backwards -> [TEXT:answer]", "cab", beam=3).text)
    print([p.text for p in model.predict("reverse", [{"word": "aab"}, {"word": "dcb"}])])

    for result in evaluate(model, baselines=False).tasks:
        score = result.metric
        print(f"{result.task}: {score.name} {score.value:.2f} ({score.low:.2f} to {score.high:.2f})")

    model.save_pretrained(folder / "saved")
    print(GeneralistModel.from_pretrained(folder / "saved"))
    return model


if __name__ == "__main__":
    main()
