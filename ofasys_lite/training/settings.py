"""How a run trains: one frozen dataclass, checked when it is written down; the learning rate that follows from it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from ofasys_lite.cards.other_names import other_names
from ofasys_lite.errors import CardError, check_choice, check_keys, check_types
from ofasys_lite.training.accounting import MODES
from ofasys_lite.training.rules import ConverterSpec, OptimizerSpec, ParameterRule, listed
from ofasys_lite.training.shares import MixtureSettings

#: Lightning's spellings of our values, where they mean the same.
_SPELLINGS: Mapping[str, Mapping[object, object]] = {
    "precision": {
        **dict.fromkeys((32, "32", "32-true", "float32", "full"), "fp32"),
        **dict.fromkeys(("bf16-mixed", "bfloat16"), "bf16"),
    },
    "accelerator": dict.fromkeys(("gpu", "cuda:0"), "cuda"),
    "devices": {"auto": -1, "-1": -1, **{str(number): number for number in range(1, 65)}},
    "strategy": dict.fromkeys(("ddp_spawn", "ddp_fork", "ddp_find_unused_parameters_false"), "ddp"),
}
#: Values of Lightning's that are not offered, and what to write.
_INSTEAD: Mapping[tuple[str, object], str] = {
    **{
        ("precision", value): "half precision with scaled losses is not offered; bf16 needs no scaling: bf16, or auto"
        for value in (16, "16", "16-mixed", "16-true", "fp16", "float16", "half")
    },
    **{
        ("precision", value): "weights stay in fp32 here: bf16 for products, or fp32, or auto"
        for value in ("bf16-true", "64", 64, "64-true", "transformer-engine")
    },
    ("accelerator", 1): "how many is trainer.devices=1; of what kind is auto, cpu or cuda",
    ("accelerator", "tpu"): "auto, cpu or cuda; others are not offered yet",
    ("accelerator", "mps"): "auto, cpu or cuda; others are not offered yet",
    ("accelerator", "xpu"): "auto, cpu or cuda; others are not offered yet",
}
#: Keys beside the settings that are switches of the model: name in the preset -> field of ModelConfig.
MODEL_SWITCHES = {"gradient_checkpointing": "gradient_checkpointing", "compile": "compile_blocks"}
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "accounting": MODES,
    "precision": ("auto", "fp32", "bf16"),
    "accelerator": ("auto", "cpu", "cuda"),
    "schedule": ("cosine", "linear", "wsd", "constant"),
    "strategy": ("auto", "ddp"),
}
#: Share of a run in which the rate of `wsd` falls; a fifth and more were as good as a cosine (arXiv 2405.18392).
COOLDOWN = 0.4
_HELP = {"devices": "how many, -1 for all; which of them is chosen by CUDA_VISIBLE_DEVICES=0,1"}


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Settings of a training run.

    Attributes:
        steps: Optimizer steps; None leaves the end to `minutes`.
        minutes: Wall time of training, validations included; None leaves the end to `steps`. Whichever ends first;
            where both are given the learning rate follows `steps`, and minutes only stop the run.
        seed: Seed of the mixture, the samples' generators, the weights and dropout.
        samples_per_step: Samples of a step, over all packs and ranks.
        source_budget: Source rows of a pack.
        target_budget: Target rows of a pack.
        lr: Peak learning rate.
        weight_decay: On matrices; embeddings, norms and biases have none.
        betas: AdamW's two averages.
        optimizer: What trains the parameters: `adamw`; `muon` for the matrices of the blocks and AdamW for the rest; or
            the dotted path of a function or class of yours.
        converters: What is put into the network for the training: `lora`, or classes of yours by dotted path.
        parameters: Rules for some of the parameters: rate, decay, steps, optimizer. Later rules win, key by key.
        warmup: Share of the run (0 to 1) with rising learning rate.
        final: Learning rate at the end, as a share of the peak.
        schedule: How it falls after the warm-up: `cosine`; `linear`; `wsd` (warm-up, stable, decay: arXiv 2404.06395):
            not at all, then in a straight line over the last `cooldown`; `constant`: never, as for going on with a run.
        cooldown: Share of the run (0 to 1) in which the rate of `wsd` falls.
        clip: Largest gradient norm; 0 does not clip.
        label_smoothing: Of target slots.
        ema: Decay of the averaged weights that are evaluated and exported; 0 keeps none.
        accounting: `share`, `token` or `sample`.
        precision: `auto` (a probe decides), `fp32` or `bf16`.
        accelerator: `auto`, `cpu` or `cuda`.
        devices: Number of devices; -1 takes all.
        nodes: Number of machines.
        strategy: Lightning's strategy: `auto`, `ddp`.
        workers: Loader workers per rank.
        threads: Compute threads; 0 leaves it to torch.
        log_every: Steps between rows of metrics.jsonl.
        valid_every: Minutes between validations; 0 validates at the end only.
        valid_samples: Samples per task in a validation during training.
        checkpoint_every: Minutes between checkpoints.
        quarantine: Share of a task's samples that may be unreadable before the run stops.
        progress: Show the progress bar.
        mixture: What weights of tasks mean, and how often rows may come again.
    """

    steps: int | None = None
    minutes: float | None = None
    seed: int = 0
    samples_per_step: int = 64
    source_budget: int = 16_384
    target_budget: int = 8_192
    lr: float = 1e-3
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    optimizer: OptimizerSpec = field(default_factory=OptimizerSpec)
    parameters: tuple[ParameterRule, ...] = ()
    converters: tuple[ConverterSpec, ...] = ()
    warmup: float = 0.05
    final: float = 0.02
    schedule: str = "cosine"
    cooldown: float = COOLDOWN
    clip: float = 1.0
    label_smoothing: float = 0.0
    ema: float = 0.0
    accounting: str = "share"
    precision: str = "auto"
    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"
    workers: int = 1
    threads: int = 0
    log_every: int = 20
    valid_every: float = 0.0
    valid_samples: int = 64
    checkpoint_every: float = 2.0
    quarantine: float = 0.01
    progress: bool = True
    mixture: MixtureSettings = field(default_factory=MixtureSettings)

    def __post_init__(self) -> None:
        check_types("trainer", self, _HELP)
        object.__setattr__(self, "optimizer", OptimizerSpec.of(self.optimizer))
        object.__setattr__(self, "mixture", MixtureSettings.of(self.mixture))
        help = "a list of rules: [{match: body.encoder.*, lr: 0.1}]"
        rules = listed("parameters", self.parameters, ParameterRule.of, help)
        object.__setattr__(self, "parameters", rules)
        converters = listed("converters", self.converters, ConverterSpec.of, "a list: [{path: lora, rank: 8}]")
        object.__setattr__(self, "converters", converters)
        if self.steps is None and self.minutes is None:
            raise CardError("training has no end", help="say steps=1000 or minutes=10 (whichever comes first ends it)")
        if self.devices < 1 and self.devices != -1:
            raise CardError(f"trainer: devices is {self.devices}", help="devices is at least 1, or -1 for all")
        if not 0 <= self.seed < 2**63:
            raise CardError(f"trainer: seed is {self.seed}", help="seed is a whole number from 0 to 2**63 - 1")
        for name in ("samples_per_step", "source_budget", "target_budget", "nodes", "log_every"):
            if getattr(self, name) < 1:
                raise CardError(f"trainer: {name} is {getattr(self, name)}", help=f"{name} is at least 1")
        for name in ("steps", "minutes", "lr", "checkpoint_every"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise CardError(f"trainer: {name} is {value}", help=f"{name} is above 0")
        for name in ("warmup", "final", "cooldown", "label_smoothing", "ema", "quarantine"):
            if not 0 <= getattr(self, name) <= 1:
                raise CardError(f"trainer: {name} is {getattr(self, name)}", help=f"{name} is a share from 0 to 1")
        for name in ("workers", "threads", "weight_decay", "clip", "valid_every", "valid_samples"):
            if getattr(self, name) < 0:
                raise CardError(f"trainer: {name} is {getattr(self, name)}", help=f"{name} is 0 or more")
        for name, allowed in _CHOICES.items():
            check_choice("trainer", name, getattr(self, name), allowed)
        if self.schedule != "wsd" and self.cooldown != COOLDOWN:
            raise CardError(
                f"trainer: cooldown is {self.cooldown}, and the schedule is `{self.schedule}`",
                help=f"cooldown is of trainer.schedule=wsd alone: set that, or leave cooldown at {COOLDOWN}",
            )
        if self.schedule == "wsd" and self.warmup + self.cooldown > 1:
            raise CardError(
                f"trainer: warmup {self.warmup} and cooldown {self.cooldown} are more than the whole run",
                help="together they are 1 at most: what is between them keeps the rate",
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise CardError(f"trainer: betas is {list(self.betas)}", help="two numbers from 0 to below 1")

    def to_dict(self) -> dict[str, object]:
        """Plain values that `from_dict` and JSON take."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ("parameters", "converters"):
            plain[name] = [each.to_plain() for each in getattr(self, name)]
        plain["mixture"] = self.mixture.to_plain()
        return {**plain, "betas": list(self.betas), "optimizer": self.optimizer.to_plain()}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> TrainSettings:
        """The settings written by `to_dict`; an unknown key raises CardError with the nearest name."""
        for key in values:
            if key in other_names("trainer"):
                raise CardError(f"trainer: unknown key `{key}`", help=known_as(key))
        check_keys("trainer", values, (f.name for f in fields(cls)))
        given = {key: _spelt(key, value) for key, value in values.items()}
        if "betas" in given:
            betas = given["betas"]
            numbers = isinstance(betas, (list, tuple)) and all(type(beta) in (int, float) for beta in betas)
            if not isinstance(betas, (list, tuple)) or len(betas) != 2 or not numbers:
                raise CardError(f"trainer: betas is {betas!r}", help="two numbers, as [0.9, 0.98]")
            given["betas"] = tuple(betas)
        try:
            return cls(**given)  # type: ignore[arg-type]
        except TypeError as error:
            raise CardError(f"trainer: {error}", help="numbers stand without quotes") from None


def known_as(key: str) -> str:
    """Help for a key that others use: what it is called here; empty for any other."""
    return f"here it is {other_names('trainer')[key]}" if key in other_names("trainer") else ""


def _spelt(key: str, value: object) -> object:
    """The value in our spelling; CardError for one of Lightning's that is not offered."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        return value
    text = value.lower() if isinstance(value, str) else value
    help = _INSTEAD.get((key, text))
    if help is not None:
        raise CardError(f"trainer: {key} is `{value}`", help=help)
    return _SPELLINGS.get(key, {}).get(text, value)


def learning_rate(settings: TrainSettings, step: int, seconds: float, given: bool = True) -> float:
    """Learning rate after `step` steps: linear warm-up, then what `schedule` says down to `final` of the peak.

    Where a user gave the steps it follows them alone: a slow machine then trains as a quick one does, only longer, and
    `minutes` are a cap that stops it.

    Args:
        seconds: Training time so far.
        given: False where `steps` are what the tasks' epochs hold: then it goes by what ends the run first.
    """
    by_steps = given and settings.steps is not None
    done = step / (settings.steps or 1) if by_steps else progress(settings, step, seconds)
    done = min(1.0, max(0.0, done))
    if done < settings.warmup:
        return settings.lr * max(done / settings.warmup, 1e-3)
    if settings.schedule == "constant":
        return settings.lr
    begins = 1 - settings.cooldown if settings.schedule == "wsd" else settings.warmup
    share = max(0.0, (done - begins) / max(1e-9, 1 - begins))
    left = 0.5 * (1 + math.cos(math.pi * share)) if settings.schedule == "cosine" else 1 - share
    return settings.lr * (settings.final + (1 - settings.final) * left)


def progress(settings: TrainSettings, step: int, seconds: float) -> float:
    """How much of a run is done after `step` steps and `seconds`: the larger of its shares of `steps` and `minutes`."""
    by_steps = 0.0 if settings.steps is None else step / settings.steps
    by_time = 0.0 if settings.minutes is None else seconds / (60 * settings.minutes)
    return max(by_steps, by_time)
