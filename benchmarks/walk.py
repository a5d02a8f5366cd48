"""How many functions and files a picture and its caption pass from their row to the loss, and what a token costs.

Only what is public is called (`fit`, a model by a task's name), so every commit can be walked. Functions are those of
the package; comprehensions and lambdas count as part of what they stand in.
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

__all__ = ["Walk", "walk"]

Call = tuple[str, str]
LINE = "[IMAGE:img] what is shown? -> [TEXT:cap]"
CAPTION = "a red sun over the sea"
#: Steps before the one that is counted: tokenizer, sources and caches are there.
WARM = 3
#: Tokens of the two answers whose calls are counted.
SHORT, LONG = 64, 512


@dataclass(frozen=True)
class Walk:
    """Counts of one sample.

    Attributes:
        to_pack: Calls from a step's number to its pack: the row is read and laid out.
        to_loss: Calls from the pack to the loss, the step's own accounting included.
        functions: Distinct functions among both.
        files: Distinct files.
        file_changes: How often a function is called in another file than the one called before it.
        room_changes: The same for rooms.
        per_token: Calls per written token beyond the first: what one more token costs.
        of_answer: Calls of an answer of 512 tokens, per token.
    """

    to_pack: int
    to_loss: int
    functions: int
    files: int
    file_changes: int
    room_changes: int
    per_token: float
    of_answer: float


@contextmanager
def _noting(package: str, calls: list[Call]) -> Iterator[None]:
    """Inside it calls of functions of the package are appended to `calls`."""
    cut = len(package) + 1

    def note(frame: Any, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(package) and not code.co_name.startswith("<"):
            name = getattr(code, "co_qualname", code.co_name)
            calls.append((code.co_filename[cut:], f"{name}:{code.co_firstlineno}"))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(before)


def walk() -> tuple[Walk, list[Call], dict[str, float]]:
    """The counts of the package that is imported, the calls from the row to the loss, and those of a further token."""
    import torch

    import ofasys_lite

    package = str(Path(ofasys_lite.__file__).parent)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as place:
            model, to_pack, to_loss = _trained(Path(place), package)
            answers: dict[int, list[Call]] = {}
            for count in (SHORT, SHORT, LONG):  # the first one fills caches
                calls: list[Call] = []
                with _noting(package, calls):
                    model("caption", img=str(Path(place) / "a.png"), min_length=count, max_length=count)
                answers[count] = calls
    finally:
        torch.set_num_threads(threads)
    both = [*to_pack, *to_loss]
    files = [file for file, _ in both]
    rooms = [Path(file).parts[0] for file in files]
    found = Walk(
        len(to_pack),
        len(to_loss),
        len(set(both)),
        len(set(files)),
        _changes(files),
        _changes(rooms),
        round((len(answers[LONG]) - len(answers[SHORT])) / (LONG - SHORT), 1),
        round(len(answers[LONG]) / LONG, 1),
    )
    more = Counter(answers[LONG])
    more.subtract(answers[SHORT])
    token = {f"{file} {name}": round(n / (LONG - SHORT), 2) for (file, name), n in more.most_common()}
    return found, both, token


def _changes(names: list[str]) -> int:
    return sum(one != two for one, two in pairwise(names))


def _trained(place: Path, package: str) -> tuple[Any, list[Call], list[Call]]:
    """A model after a few steps of one sample, and the calls of the last step: to its pack, and to its loss."""
    import numpy as np
    from lightning.pytorch.strategies.strategy import Strategy
    from PIL import Image
    from rich.console import Console
    from torch.utils.data._utils.fetch import _MapDatasetFetcher as Fetcher

    from ofasys_lite import GeneralistModel, Task, fit
    from ofasys_lite.training.module import TrainingModule

    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(place / "a.png")
    task = Task("caption", LINE)
    for split in ("train", "valid", "test"):
        (place / f"{split}.csv").write_text(f"img,cap\na.png,{CAPTION}\n", encoding="utf-8")
        task.add_dataset(str(place / f"{split}.csv"), split)
    packs: list[list[Call]] = []
    losses: list[list[Call]] = []

    def noted(of: Callable[..., Any], into: list[list[Call]]) -> Callable[..., Any]:
        def run(*arguments: Any, **more: Any) -> Any:
            into.append([])
            with _noting(package, into[-1]):
                return of(*arguments, **more)

        return run

    def silent(of: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **more: Any) -> Any:
            # the loss is there: what follows is the backward pass and the optimizer
            sys.setprofile(None)
            return of(*arguments, **more)

        return run

    model = GeneralistModel("tiny", width=32, heads=2, encoder_layers=1, decoder_layers=1)
    with (
        mock.patch.object(Fetcher, "fetch", noted(Fetcher.fetch, packs)),
        mock.patch.object(Strategy, "training_step", noted(Strategy.training_step, losses)),
        mock.patch.object(TrainingModule, "manual_backward", silent(TrainingModule.manual_backward)),
    ):
        options: dict[str, Any] = {"steps": WARM + 1, "samples_per_step": 1, "workers": 0, "threads": 1, "pieces": 300}
        options |= {"precision": "fp32", "valid_every": 0, "progress": False, "console": Console(file=io.StringIO())}
        fit(model, task, folder=str(place / "run"), **options)
    return model, packs[-1], losses[-1]


if __name__ == "__main__":
    counts, passed, written = walk()
    told = {"counts": asdict(counts), "calls": passed, "token": written}
    Path(sys.argv[1]).write_text(json.dumps(told), encoding="utf-8")
