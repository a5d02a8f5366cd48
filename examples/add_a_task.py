"""A trained model learns one more task: new vocabulary rows are appended, what is there stays.

Trains the first model itself; about 20 seconds on one CPU core: python examples/add_a_task.py
"""

from pathlib import Path

from ofasys_lite import GeneralistModel, Task, fit

WORDS = {"one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8"}


def main(steps: int = 200, folder: Path = Path("runs/add_a_task")) -> GeneralistModel:
    """The model that knows both tasks."""
    options = {"samples_per_step": 16, "workers": 0, "pieces": 300, "lr": 3e-3}
    digits = Task("digits", "digit of [TEXT:word] -> [TEXT:digit,closed_set]")
    digits.add_dataset([{"word": word, "digit": digit} for word, digit in WORDS.items()] * 20)
    first = fit(GeneralistModel("tiny", width=64), digits, steps=steps, folder=folder / "first", **options)
    print(first("digits", word="five").text)

    model = GeneralistModel.from_pretrained(folder / "first")
    parity = Task("parity", "odd or even: [TEXT:word] -> [TEXT:parity,closed_set]")
    parity.add_dataset([{"word": w, "parity": "odd" if int(d) % 2 else "even"} for w, d in WORDS.items()] * 20)
    # the old task is named too, so that it is not unlearned; the tokenizer is the model's own
    options.pop("pieces")
    fit(model, [parity, digits], steps=steps, folder=folder / "second", **options)
    print(model.tasks, model("parity", word="five").text, model("digits", word="five").text)
    return model


if __name__ == "__main__":
    main()
