"""Baselines fitted on training rows and applied to test rows.

`trivial` ones (constant, blind to an input, copying the source) are what a task must clear; `reference` ones are
classical methods printed beside, beaten or not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ofasys_lite.cards.classes import load_function
from ofasys_lite.errors import CardError, did_you_mean
from ofasys_lite.metrics.baselines import (
    byte_models,
    chosen,
    constant,
    grids,
    motions,
    nearest,
    next_names,
    picture_answers,
    textual,
    videos,
)
from ofasys_lite.metrics.baselines.problem import Problem
from ofasys_lite.metrics.baselines.rankings import RANKINGS
from ofasys_lite.metrics.score import Row, Value
from ofasys_lite.preprocess import kinds

__all__ = ["FORETELLERS", "baseline_kind", "baseline_names", "copied_column", "fit_predict"]

Baseline = Callable[[Problem], list[Value]]
_FUNCTIONS: tuple[Baseline, ...] = (
    *(chosen.best_constant, chosen.copy, chosen.greedy_list, constant.best_box, constant.constant_list),
    *(constant.label_blind_box, constant.majority, constant.mean_box, constant.random_target, constant.unigram),
    *(picture_answers.common_image, picture_answers.mean_fill, picture_answers.mean_image),
    *(motions.mean_clip, videos.mean_frames, nearest.nearest_turn, textual.bigram_infill, textual.question_only),
    *(byte_models.byte_trigram, byte_models.byte_unigram),
    *(next_names.most_popular, next_names.latest, next_names.next_of_last, grids.legal_digit),
)
_CLASSICAL: tuple[Baseline, ...] = (
    *(nearest.nearest_audio, nearest.nearest_pixels, nearest.nearest_tfidf, textual.letter_phones),
    *(byte_models.byte_fivegram, next_names.item_knn, next_names.ngram_cache),
)
_TRIVIAL = {"random_image": constant.random_target, **{each.__name__: each for each in _FUNCTIONS}}
_REFERENCE = {each.__name__: each for each in _CLASSICAL}
_NEEDS_KIND = {
    **dict.fromkeys(("mean_box", "best_box", "label_blind_box"), kinds.BOX),
    **dict.fromkeys(("common_image", "mean_image", "mean_fill", "random_image"), kinds.PICTURE),
    **dict.fromkeys(("constant_list", "greedy_list"), kinds.DETECTION),
    "mean_clip": kinds.NUMBERS,
    **dict.fromkeys(("most_popular", "latest", "next_of_last", "item_knn", "ngram_cache"), kinds.RANKING),
    "mean_frames": kinds.VIDEO,
}
#: What foretells texts, and answers nothing: its values are bits, and it looks at the targets of the test rows.
FORETELLERS = ("byte_unigram", "byte_trigram", "byte_fivegram")
_NEEDS_INPUT = {
    **dict.fromkeys(("nearest_pixels", "mean_fill"), kinds.PICTURE),
    **{"nearest_audio": kinds.SOUND, "nearest_tfidf": kinds.TEXT, "nearest_turn": kinds.TEXT, "copy": kinds.TEXT},
}
#: What can answer with a picture: made for it, or a training row's target whatever it is.
_ANSWERS_PICTURES = (
    "common_image",
    "mean_image",
    "mean_fill",
    "random_image",
    "random_target",
    "nearest_audio",
    "nearest_pixels",
    "nearest_tfidf",
)


def baseline_names() -> tuple[str, ...]:
    """Names of all baselines, sorted."""
    return tuple(sorted({*_TRIVIAL, *_REFERENCE, *RANKINGS}))


def baseline_kind(name: str) -> str:
    """`trivial` (a function of the user's, too) or `reference`; CardError with the near name for an unknown one."""
    if name in _TRIVIAL or name in RANKINGS:
        return "trivial"
    if name in _REFERENCE:
        return "reference"
    _own(name)
    return "trivial"


def _own(name: str) -> Baseline:
    """A baseline of the user's by dotted path; CardError with the near name if there is none."""
    if "." not in name:
        help = f"{did_you_mean(name, baseline_names())}; or the dotted path of a function of yours"
        raise CardError(f"baseline `{name}` is not known", help=help)
    return load_function(name, "baseline", "name a function of a Problem that gives the answers")


def copied_column(train_rows: Sequence[Row], test_rows: Sequence[Row], inputs: Sequence[str], target: str) -> str:
    """The input that baseline `copy` answers with: the text most like the target in training; empty if none is text."""
    return chosen.copied_column(Problem(train_rows, test_rows, tuple(inputs), target, kinds.TEXT))


def fit_predict(
    name: str,
    train_rows: Sequence[Row],
    test_rows: Sequence[Row],
    inputs: Sequence[str],
    target: str,
    target_kind: str,
    seed: int = 0,
    metric: str = "",
    higher: bool | None = None,
) -> list[Value]:
    """One value per test row by the named baseline, learned from the training rows; test targets are never read.

    `name` is a built-in name, or the dotted path of a function of a `Problem` that gives the answers.

    `metric` is what judges the task; `best_constant` is chosen by it on the training rows. `higher` says whether more
    is better where the metric does not.

    Raises CardError for an unknown name or kind, and for a baseline that cannot answer such a task or not every row.
    """
    baseline_kind(name)
    if target_kind not in kinds.KINDS:
        raise CardError(f"target kind `{target_kind}` is not known", help=did_you_mean(target_kind, kinds.KINDS))
    if name in RANKINGS:
        message = f"baseline `{name}` ranks the candidates of a line with `<->`, and `{target}` is written"
        raise CardError(message, help="majority serves every kind of target but pictures")
    own = name not in _TRIVIAL and name not in _REFERENCE
    if target_kind == kinds.PICTURE and name not in _ANSWERS_PICTURES and not own:
        raise CardError(
            f"baseline `{name}` answers with no picture, and `{target}` is one",
            help=f"these do: {', '.join(_ANSWERS_PICTURES)}",
        )
    needed = _NEEDS_KIND.get(name, target_kind)
    if needed != target_kind:
        raise CardError(
            f"baseline `{name}` predicts {needed}, but `{target}` is {target_kind}",
            help="majority serves every kind of target but pictures",
        )
    problem = Problem(train_rows, test_rows, tuple(inputs), target, target_kind, seed, metric, higher)
    kind = _NEEDS_INPUT.get(name)
    if kind is not None and train_rows and not problem.columns(kind):
        raise CardError(
            f"baseline `{name}` needs a column of {kind}; none of the inputs holds any: {', '.join(inputs) or 'none'}",
            help=f"{'mean_image' if target_kind == kinds.PICTURE else 'majority'} serves every kind of input",
        )
    function = _own(name) if own else {**_TRIVIAL, **_REFERENCE}[name]
    values = function(problem)
    if len(values) != len(test_rows):
        raise CardError(f"baseline {name} gives {len(values)} answers for {len(test_rows)} rows", help="one for each")
    return values
