"""OFASys' `OFASys` class (arXiv 2212.04408): its README and tutorial run with the import changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ofasys_lite.api.model import Closed, GeneralistModel
from ofasys_lite.errors import CardError, CheckpointError, DataError
from ofasys_lite.generalist.prediction import Prediction
from ofasys_lite.generalist.value_files import files_in, save_value
from ofasys_lite.interop.ofasys_spellings import current_line, generation
from ofasys_lite.preprocess import kinds

if TYPE_CHECKING:
    from typing import NoReturn

    import torch

Self = TypeVar("Self", bound="OFASys")
Row = Mapping[str, Any]


class Output(Prediction):
    """A prediction with the further methods that OFASys' outputs have; those refused say what to use instead."""

    __slots__ = ()

    def save_image(self, path: str | Path, overwrite: bool = False) -> Path:
        """Writes the generated picture; returns the path. DataError where the line writes none."""
        found = [(value, tool) for _, value, tool in files_in(self.values, self.tools) if tool.kind == kinds.PICTURE]
        if not found:
            self._refuse("image", path, "save_box(path) draws boxes on the input image")
        return save_value(self.picture, found[0][1], path, overwrite)

    def save_audio(self, path: str | Path) -> NoReturn:
        """Always refused: sound cannot be written yet."""
        self._refuse("sound", path, "save(path) writes the text or the structure")

    def save_video(self, path: str | Path) -> NoReturn:
        """Always refused: videos cannot be written yet."""
        self._refuse("video", path, "save(path) writes the text or the structure")

    def save_motion(self, path: str | Path, overwrite: bool = False) -> Path:
        """Writes the generated clip (.bvh, .csv, .npy, .gif); returns the path. DataError where there is none."""
        found = [(value, tool) for _, value, tool in files_in(self.values, self.tools) if tool.kind == kinds.NUMBERS]
        if not found:
            self._refuse("motion", path, "save(path) writes the text or the structure")
        return save_value(*found[0], path, overwrite)

    def _refuse(self, what: str, path: str | Path, instead: str) -> NoReturn:
        held = ", ".join(f"{column} ({self.modalities.get(column, '?')})" for column in self.values)
        raise DataError(f"cannot save {path}: this prediction holds no {what}, but {held}", help=instead)


class OFASys(GeneralistModel):
    """A trained model under OFASys' name: load it with `from_pretrained`, use it with `inference`."""

    @classmethod
    def from_pretrained(
        cls: type[Self],
        path: str | Path,
        task_name: str | None = None,
        initialize_all_tasks: bool = True,
        *,
        device: str | torch.device = "auto",
        precision: str = "fp32",
    ) -> Self:
        """The model in a run folder, an export folder, or a Hugging Face repository.

        Args:
            path: `runs/x`, a folder of `save_pretrained`, or a repository's id. Checkpoints of OFASys itself (`.pt`,
                addresses) are refused: their weights belong to another network.
            task_name: Not needed here, because `inference` takes task names; a name is checked.
            initialize_all_tasks: All tasks the model learned are there, whatever this says.
            device: Where it computes: `auto`, `cpu`, `cuda` ...
            precision: Of its predictions: `fp32`, `bf16`, `int8` or `auto`.
        """
        model = super().from_pretrained(path, device=device, precision=precision)
        if task_name is not None:
            model.generalist.entry(task_name)
        return model

    def half(self) -> NoReturn:
        """Always refused: weights stay in fp32."""
        raise CheckpointError(
            "weights stay in fp32", help="leave .half() out; training in bfloat16: fit(..., precision='bf16')"
        )

    def inference(
        self,
        instructions_or_tasks: str | Sequence[str],
        data: Row | Sequence[Row] | None = None,
        closed_set: Closed | None = None,
        batch_size: int = 1,
        **generation_arguments: Any,
    ) -> Any:
        """An Output for one sample, a list of them where lines or rows come as a list.

        Args:
            instructions_or_tasks: A line or a learned task's name, or one per row.
            data: A row, or a list of rows.
            closed_set: The only values that may be written, or values by column.
            batch_size: Checked and otherwise not needed: rows are batched by their length.
            **generation_arguments: OFASys' (beam_size, max_len, min_len, len_penalty, temperature, sampling,
                sampling_topk, sampling_topp, no_repeat_ngram_size, return_n_best), or decoding options of this
                package. What is not given is the task card's, else greedy (OFASys: a beam of 5).
                With return_n_best above 1 each sample gives a list, best first.

        Raises:
            CardError: An argument that has no meaning here (with what to use instead), or an unknown one.
            OfasysError: As a call of the model.
        """
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise CardError(f"inference: batch_size is {batch_size!r}", help="a whole number from 1, or leave it out")
        if isinstance(data, str) or (data is not None and not isinstance(data, (Mapping, Sequence))):
            raise DataError(f"inference: data is {type(data).__name__}", help="a dict of values by column, or a list")
        asked = generation(generation_arguments)
        several = not isinstance(instructions_or_tasks, str) or not (data is None or isinstance(data, Mapping))
        lines, rows = _pairs(instructions_or_tasks, data)
        outputs: list[Any] = [None] * len(rows)
        for line in dict.fromkeys(lines):
            numbers = [n for n, each in enumerate(lines) if each == line]
            found = self.predict(current_line(line), [rows[n] for n in numbers], closed_set=closed_set, **asked.options)
            for number, prediction in zip(numbers, found, strict=True):
                outputs[number] = _output(prediction, asked.several)
        return outputs if several else outputs[0]


def _pairs(lines: str | Sequence[str], data: Row | Sequence[Row] | None) -> tuple[list[str], list[Row]]:
    """One line and one row per sample."""
    if isinstance(lines, str):
        rows: list[Row] = [data or {}] if data is None or isinstance(data, Mapping) else list(data)
        return [lines] * len(rows), rows
    if data is None or isinstance(data, Mapping):
        return list(lines), [data or {} for _ in lines]
    if len(lines) != len(data):
        raise DataError(
            f"inference: {len(lines)} instructions for {len(data)} rows", help="one instruction, or one for each row"
        )
    return list(lines), list(data)


def _output(prediction: Prediction, several: bool) -> Any:
    values = {f.name: getattr(prediction, f.name) for f in fields(Prediction)}
    one = Output(**values)
    return [_output(each, False) for each in prediction.n_best] if several and prediction.n_best else one
