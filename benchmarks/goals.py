"""The goals of speed, row by row: what is measured, by which script, how its figure is read, what it must be.

A row is read from the JSON of its subject alone. `why` says why a goal is not met; it is shown only where that is so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from speedrun_ledger import README_SAMPLES, SEEDS, best, held_on_test, samples_of

Found = Mapping[str, Any]


class Missing(Exception):
    """The result lacks this row's figure; says why."""


@dataclass(frozen=True, slots=True)
class Goal:
    """One row of the table.

    Attributes:
        row: Its number, which is kept for good.
        metric: What is measured.
        subject: Name of the script and of its JSON file.
        must: Least values, one for each figure.
        aim: Values that it should have.
        read: JSON -> the figures; raises Missing.
        unit: Printed behind each figure.
        higher: False where less is better.
        why: JSON -> why a goal is not met.
    """

    row: int
    metric: str
    subject: str
    must: tuple[float, ...]
    aim: tuple[float, ...]
    read: Callable[[Found], Sequence[float]]
    unit: str = "x"
    higher: bool = True
    why: Callable[[Found], str] = lambda found: "the profile below says where it goes"

    def met(self, figures: Sequence[float], goal: Sequence[float]) -> bool:
        """Whether every figure is as good as its goal."""
        return all(a >= b if self.higher else a <= b for a, b in zip(figures, goal, strict=True))

    def shown(self, figures: Sequence[float]) -> str:
        """Figures with their unit."""
        return " / ".join(figure(value, self.unit) for value in figures)

    def exact(self, figures: Sequence[float]) -> str:
        """The same, with one more digit where rounding would hide that a goal was missed."""
        digits = 3 if self.shown(figures) not in (self.shown(self.must), self.shown(self.aim)) else 4
        return " / ".join(figure(value, self.unit, digits) for value in figures)


def figure(value: float, unit: str, digits: int = 3) -> str:
    """A number as it is printed.

    Example:
        >>> figure(0.031, "%"), figure(1.284, "x"), figure(148, "")
        ('3.1 %', '1.28', '148')
    """
    if unit == "%":
        return f"{100 * value:.{digits}g} %"
    return f"{value:.{digits}g}" + (f" {unit}" if unit not in ("", "x") else "")


def _bart(key: str, *plans: str, precision: str = "fp32") -> Callable[[Found], Sequence[float]]:
    """Medians of our training against BART's, in fp32 where the wanted precision was not measured."""

    def read(found: Found) -> Sequence[float]:
        results = found["results"]
        there = results.get(precision, results["fp32"])
        return [float(there[plan][key]["median"]) for plan in plans]

    return read


def _bf16_bart(key: str) -> Callable[[Found], Sequence[float]]:
    def read(found: Found) -> Sequence[float]:
        if found["probe"]["dtype"] != "bf16":
            raise Missing(f"not on this machine: a bf16 product runs at {found['probe']['bf16_over_fp32']:.2f} of fp32")
        if "bf16" not in found["results"]:
            raise Missing("not measured: bf16 was left out")
        return [float(found["results"]["bf16"]["random"][key]["median"])]

    return read


def _amx(found: Found) -> Sequence[float]:
    if not any(flag.startswith("amx") for flag in found["machine"]["flags"]):
        raise Missing("not this machine: its CPU has no AMX")
    results = found["results"]
    own = results["bf16"]["random"]["ours_tokens_per_s"]["median"]
    return [float(own / results["fp32"]["random"]["hf_tokens_per_s"]["median"])]


def _decoded(*pairs: tuple[str, str, str]) -> Callable[[Found], Sequence[float]]:
    """Medians of (plan, ours, theirs); `ours` alone takes the best of our precisions."""

    def read(found: Found) -> Sequence[float]:
        figures = []
        for plan, ours, theirs in pairs:
            ratios = found["results"].get(plan, {}).get("ratios", {})
            held = [v["median"] for name, v in ratios.items() if name.startswith(ours) and name.endswith(f"/ {theirs}")]
            if not held:
                raise Missing(f"not measured: {ours} / {theirs}, {plan}")
            figures.append(float(max(held)))
        return figures

    return read


def _sampling(found: Found) -> Sequence[float]:
    return [min(float(case["ratio"]["plain"]["median"]) for case in found["cases"] if case["threads"] == 1)]


def _resumed(found: Found) -> Sequence[float]:
    cases = found["cases"]
    if not all(case["samples_equal"] and case["weights_equal"] for case in cases):
        raise Missing("NOT EXACT: samples or weights differ after a resume")
    return [max(float(case["resumed_cpu_s"]) for case in cases)]


def _speedrun(key: str) -> Callable[[Found], Sequence[float]]:
    def read(found: Found) -> Sequence[float]:
        held = best(found)
        if held is None:
            raise Missing(f"no try that was kept holds all of README's scores by the means of {SEEDS} seeds")
        if key == "samples":
            return [samples_of(held) / README_SAMPLES]
        if "price" not in held:
            raise Missing(f"not measured for try {held['id']}: python benchmarks/speedrun.py price")
        return [float(held["price"]["ratio"])]

    return read


def _speedrun_why(found: Found) -> str:
    held = best(found)
    if held is None:
        return "docs/speedrun.md has what was tried"
    counts = [len(held_on_test(run["test"])) for run in held["runs"] if "test" in run]
    each = ", ".join(map(str, counts))
    return (
        f"try {held['id']}, by the means of {len(counts)} seeds, which hold {each} of 10 by themselves; "
        "docs/speedrun.md has what was tried"
    )


def _bart_why(found: Found, *plans: str) -> str:
    parts = [found["results"]["fp32"][plan] for plan in plans]
    theirs = " and ".join(" / ".join(f"{100 * share:.0f} %" for share in part["hf_padding"]) for part in parts)
    use = " and ".join(f"{part['ours_use_of_peak']['median']:.2f}" for part in parts)
    most = " / ".join(f"{part['ratio']['median'] / part['ours_use_of_peak']['median']:.2f}" for part in parts)
    return (
        f"what is gained in fp32 is their padding, {theirs} of source / target; our useful operations run at {use} of "
        f"the peak of a product, so that at the whole peak the ratio would be {most}"
    )


def _use_why(found: Found) -> str:
    result = found["results"]["fp32"]
    uses = {plan: result[plan]["ours_use_of_peak"] for plan in ("random", "bucketed by source", "bucketed by both")}
    first, *others = uses.values()
    reached = " and ".join(f"{use['median']:.2f}" for use in others)
    return (
        f"from {first['low']:.2f} to {first['high']:.2f} in its repetitions; the samples of the two other plans, "
        f"measured in the same run, reach {reached}"
    )


def _resume_why(found: Found) -> str:
    case = max(found["cases"], key=lambda each: each["resumed_cpu_s"])
    return (
        f"imports of torch, Lightning and the project are {case.get('imports_cpu_s', 0):.1f} CPU s of it, and a new "
        f"run's first step comes after {case['fresh_cpu_s']:.1f}"
    )


def _best_why(found: Found) -> str:
    other = "CTranslate2 int8"
    said = []
    for plan in ("drawn, greedy", "drawn, beam 4", "sorted, greedy", "sorted, beam 4", "stops, greedy"):
        ratios = found["results"].get(plan, {}).get("ratios", {})
        held = {name.removesuffix(f" / {other}"): each for name, each in ratios.items() if name.endswith(f" / {other}")}
        if held:
            name, each = max(held.items(), key=lambda pair: float(pair[1]["median"]))
            said.append(f"{plan} {each['median']:.2f} ({each['low']:.2f} to {each['high']:.2f}, {name})")
    return f"by plan: {'; '.join(said)}. Batches of like lengths need no padding, and there theirs are faster"


def _step_why(found: Found) -> str:
    part = found["lightning"]
    inside = part["of_it_in_the_step_ms"]
    return (
        f"a step takes {part['lightning_ms']:.1f} ms beside {part['bare_ms']:.1f} of a bare loop; {inside:.1f} of the "
        f"difference are spent within the training step itself (accounting of 20 losses, weights of units, seeds, two "
        f"groups of parameters; clipping costs less than torch's), {part['difference_ms'] - inside:.1f} by Lightning's "
        "loop and the callbacks around it"
    )


def _constant_why(found: Found) -> str:
    peak, parts = found["peak_gflops"], []
    for name, step in found["steps"].items():
        if "gflop" in step:
            least = step["gflop"] / peak
            parts.append(
                f"{name}: {step['gflop']:.0f} GFLOP by the project's formula are {least:.2f} s at this machine's peak "
                f"of {peak:.0f} GFLOP/s, a ratio of {step['recorded_s'] / least:.1f} at best; ours runs at "
                f"{step['use_of_peak']:.2f} of the peak"
                + (f", and in bf16 the ratio is {step['ratio_in_bf16']:.2f}" if "ratio_in_bf16" in step else "")
            )
    return "; ".join(parts) or "the peak of the machine of the recorded constant is not known"


GOALS = (
    Goal(1, "training, useful tokens/s over HF BART, random batches of 16, equal size, bf16 (fp32 on CPUs without)",
         "training_bart", (2.0,), (3.0,), _bart("ratio", "random", precision="bf16"),
         why=lambda found: _bart_why(found, "random")),
    Goal(2, "same in fp32, BART's batches bucketed by source / by source and then target",
         "training_bart", (1.25, 1.15), (1.4, 1.3), _bart("ratio", "bucketed by source", "bucketed by both"),
         why=lambda found: _bart_why(found, "bucketed by source", "bucketed by both")),
    Goal(3, "same, ours in bf16 over HF in its fp32 default, on a CPU with AMX",
         "training_bart", (4.0,), (6.0,), _amx),
    Goal(4, "own fp32 useful FLOP/s over the fp32 peak, one thread",
         "training_bart", (0.80,), (0.95,), _bart("ours_use_of_peak", "random"), unit="",
         why=lambda found: _use_why(found)),
    Goal(5, "own bf16 over the bf16 peak",
         "training_bart", (0.25,), (0.45,), _bf16_bart("ours_use_of_peak"), unit=""),
    Goal(6, "padding share of packs, quickstart's mixture, the larger of source and target",
         "loader_wait", (0.05,), (0.02,), lambda found: [max(found["padding"])], unit="%", higher=False),
    Goal(7, "decoding, beam 4, 32 forced tokens, batch 16, over HF generate, fp32",
         "decoding", (2.0,), (3.0,), _decoded(("drawn, beam 4", "ours fp32", "HF fp32"))),
    Goal(8, "same, greedy",
         "decoding", (1.3,), (1.8,), _decoded(("drawn, greedy", "ours fp32", "HF fp32"))),
    Goal(9, "same, ragged stops (lengths 1 to 60), greedy / beam 4",
         "decoding", (1.8, 2.5), (2.5, 4.0),
         _decoded(("stops, greedy", "ours fp32", "HF fp32"), ("stops, beam 4", "ours fp32", "HF fp32"))),
    Goal(10, "Lightning step minus bare loop step, 20 tasks logged, all callbacks",
         "step_cost", (0.6,), (0.3,), lambda found: [found["lightning"]["difference_ms"]], unit="ms", higher=False,
         why=lambda found: _step_why(found)),
    Goal(11, "host cost of a step with 100 tasks over 1 task, same samples",
         "step_cost", (0.03,), (0.01,), lambda found: [found["many_tasks"]["ratio"] - 1], unit="%", higher=False),
    Goal(12, "loader wait share of a training step, quickstart's mixture, 1 worker",
         "loader_wait", (0.05,), (0.01,), lambda found: [found["wait_share"]], unit="%", higher=False),
    Goal(13, "image decode and resize per core over PIL's default, 500 x 375 / 1440 x 1080 JPEG",
         "image_decode", (1.3, 2.5), (1.8, 3.4), lambda found: [float(size["ratio"]) for size in found["sizes"]]),
    Goal(14, "resume in mid-epoch: same next samples and weights, bit for bit, any number of workers; a fresh process "
         "until its first step", "resuming", (10.0,), (2.0,), _resumed, unit="CPU s", higher=False,
         why=lambda found: _resume_why(found)),
    Goal(15, "OFASys tiny over ours, equal width, depth and image tokens: infilling 16 x 64 / captions 8 at 224 px; "
         "theirs a recorded constant", "ofasys_steps", (2.0, 2.0), (4.0, 4.0),
         lambda found: [float(found["steps"][name]["ratio"]) for name in ("infilling", "caption")],
         why=lambda found: _constant_why(found)),
    Goal(16, "DnD sampling, CPU s an image of the plain loop over ours; the least of all cases",
         "sampling_dnd", (1.5,), (2.5,), _sampling),
    Goal(19, "decoding on a CPU, tokens per CPU s over CTranslate2 fp32, ours fp32, greedy / beam 4",
         "decoding", (1.0, 1.0), (1.5, 1.5),
         _decoded(("drawn, greedy", "ours fp32", "CTranslate2 fp32"),
                  ("drawn, beam 4", "ours fp32", "CTranslate2 fp32"))),
    Goal(20, "same, our best precision over CTranslate2 int8",
         "decoding", (1.0, 1.0), (1.3, 1.3),
         _decoded(("drawn, greedy", "ours", "CTranslate2 int8"), ("drawn, beam 4", "ours", "CTranslate2 int8")),
         why=lambda found: _best_why(found)),
    Goal(21, "samples to reach the quickstart's scores of 9e93b69 on test, all ten tasks, over those of 9e93b69",
         "speedrun", (0.4,), (0.2,), _speedrun("samples"), higher=False, why=_speedrun_why),
    Goal(22, "CPU seconds, likewise", "speedrun", (0.67,), (0.33,), _speedrun("cpu"), higher=False, why=_speedrun_why),
    Goal(23, "Python calls per written token, one layer",
         "way", (40,), (15,), lambda found: [float(found["per_token"])], unit="", higher=False),
    Goal(24, "distinct functions from a row to its loss",
         "way", (120,), (90,), lambda found: [float(found["functions"])], unit="", higher=False),
)  # fmt: skip
