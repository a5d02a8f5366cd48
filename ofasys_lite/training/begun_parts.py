"""What weights of others change of a run: its sizes, adapters, settings of modalities. No torch until they are read."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from ofasys_lite.cards.classes import load_function
from ofasys_lite.cards.types import ModalityCard
from ofasys_lite.errors import CardError, CheckpointError, OfasysError, did_you_mean
from ofasys_lite.model.config import ModelConfig
from ofasys_lite.run.run_folder import RunFolder
from ofasys_lite.training.start import Start
from ofasys_lite.writing import write_atomic

if TYPE_CHECKING:
    from ofasys_lite.generalist.parts import Body, Part

#: By the name of the modality.
Parts: TypeAlias = "Mapping[str, Part | Body]"


@dataclass(frozen=True, slots=True)
class Begun:
    """A run with the parts that it begins with.

    Attributes:
        cards: Modality cards by name and alias, the parts' adapters their defaults.
        model: Sizes, those of the weights among them.
        bins: Box bins of the vocabulary that a part brings; None where none brings one, or the run goes on.
        notes: What is to be said before the first step.
    """

    parts: Parts
    cards: Mapping[str, ModalityCard]
    model: ModelConfig
    bins: int | None
    notes: tuple[str, ...]


def begin_parts(
    start: Start,
    cards: Mapping[str, ModalityCard],
    model: ModelConfig,
    folder: RunFolder,
    resume: bool,
    given: Collection[str],
) -> Begun:
    """The run with the weights of others that `start` names; without parts as it is.

    Args:
        folder: Of the run.
        given: Keys that the user wrote himself (`model.width`, `modalities.IMAGE.patch`, `data.pieces`): one that
            contradicts the weights is refused, presets give way.

    Raises:
        CardError: A modality that has no such part, or a card that does not declare its adapter.
        CheckpointError: Weights that are not there, damaged, of another house or shape; a run that began with others;
            sizes, settings or a tokenizer that were asked for and are not theirs.
    """
    resumed = resume and folder.last.exists()
    if not start.parts and not (resumed and folder.parts.exists()):
        return Begun({}, cards, model, None, ())
    from ofasys_lite.generalist.parts import begun_with

    parts = _read(start, cards, folder, resumed)
    config, notes = _sized(parts, model, given)
    parts = {name: _advised(part, config) for name, part in parts.items()}
    told = tuple(begun_with(name, part) for name, part in parts.items() if part.state)
    body, bins = body_of(parts), None
    if body is not None:
        for key in ("tokenizer", "pieces", "bins"):
            if f"data.{key}" in given:
                raise CheckpointError(
                    f"{body.house} ({body.source}): data.{key} cannot be chosen: it brings its own vocabulary",
                    help=f"leave data.{key} out (in Python: {key}=)",
                )
        bins = None if body.vocabulary is None else body.vocabulary.bins
        notes = (*notes, *body.notes)
    return Begun(parts, _with_parts(parts, cards, given), config, bins, (*told, *notes))


def _read(start: Start, cards: Mapping[str, ModalityCard], folder: RunFolder, resumed: bool) -> Parts:
    """The parts; of a run that goes on what it kept of them, without weights."""
    Start.of(start.parts, cards)
    if resumed:
        return _kept(start, cards, folder)
    from ofasys_lite.generalist.parts import check_finite

    found: dict[str, Part | Body] = {}
    for name, source in start.parts.items():
        card = cards[name.upper()]
        read = load_function(card.starts, f"modality {card.name}: starts", "a function: source -> Part or Body")
        try:
            found[card.name] = part = read(source)
            check_finite(part)
        except OfasysError as error:
            told = f"start.{name}={source}: {error.message}"
            raise type(error)(told, code=error.code, place=error.place, help=error.help) from error
        except OSError as error:
            raise CheckpointError(f"start.{name}={source} cannot be read: {error}", help="a folder or a file") from None
    return found


def keep_parts(parts: Parts, folder: RunFolder) -> None:
    """Writes what a run that goes on must know of its parts; takes away what an earlier one, cut short, has left."""
    if not parts:
        folder.parts.unlink(missing_ok=True)
    else:
        from ofasys_lite.generalist.parts import stored_part

        stored = {name: stored_part(part) for name, part in parts.items()}
        write_atomic(folder.parts, json.dumps(stored, indent=1, ensure_ascii=False))


def _kept(start: Start, cards: Mapping[str, ModalityCard], folder: RunFolder) -> Parts:
    from ofasys_lite.generalist.parts import part_from

    asked = {cards[name.upper()].name: source for name, source in start.parts.items()}
    try:
        stored = json.loads(folder.parts.read_text(encoding="utf-8"))
        found = {str(name): part_from(value) for name, value in stored.items()}
    except FileNotFoundError:
        found = {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder.parts} is damaged: {error}", help="begin again under another name") from None
    began = {name: part.source for name, part in found.items()}
    if began != asked:
        raise CheckpointError(
            f"{folder.path} began with {_listed(began)}, and is to go on with {_listed(asked)}",
            help="resume it with what it began with, or begin another run",
        )
    return found


def _listed(sources: Mapping[str, str]) -> str:
    return ", ".join(f"start.{name.lower()}={source}" for name, source in sources.items()) or "no part of others"


def body_of(parts: Parts) -> Body | None:
    """The part that brings the encoder-decoder, or None; CheckpointError where there are two."""
    from ofasys_lite.generalist.parts import Body

    found = {name: part for name, part in parts.items() if isinstance(part, Body)}
    if len(found) > 1:
        raise CheckpointError(f"{' and '.join(found)} both bring an encoder-decoder", help="keep one of them")
    return next(iter(found.values()), None)


def _sized(parts: Parts, asked: ModelConfig, given: Collection[str]) -> tuple[ModelConfig, tuple[str, ...]]:
    """(sizes of the model as the parts have them, a note of what they take the place of)."""
    body = body_of(parts)
    if body is None:
        return asked, ()
    try:
        config = body.sizes(asked, [key.removeprefix("model.") for key in given])
    except CardError as error:
        raise CheckpointError(f"{body.house} ({body.source}): {error.message}", help=error.help) from None
    before, after = asked.stored(), config.stored()
    changed = {key: value for key, value in after.items() if before[key] != value}
    for key, value in changed.items():
        if f"model.{key}" in given:
            raise CheckpointError(
                f"{body.house} ({body.source}): model.{key} is {value} there, and {before[key]} is asked for",
                help="leave it out: sizes come with the weights; free are "
                + ", ".join(f"model.{name}" for name in (*body.free, *body.advised)),
            )
    if not changed:
        return config, ()
    told = ", ".join(f"{key} {value} (not {before[key]})" for key, value in changed.items())
    return config, (f"sizes come with the weights of {body.house}: {told}",)


def _advised(part: Part | Body, config: ModelConfig) -> Part | Body:
    """The part with what the run has of its advice, so that a run that goes on has it, too."""
    from ofasys_lite.generalist.parts import Body

    if not isinstance(part, Body):
        return part
    return replace(part, config=replace(part.config, **{key: getattr(config, key) for key in part.advised}))


def _with_parts(parts: Parts, cards: Mapping[str, ModalityCard], given: Collection[str]) -> dict[str, ModalityCard]:
    """The modality cards, the parts' adapters their defaults and with the settings that belong to the weights."""
    from ofasys_lite.generalist.parts import Part

    changed: dict[str, ModalityCard] = {}
    for name, part in parts.items():
        card = cards[name]
        most = 0 if isinstance(part, Part) else part.config.places - 2
        if 0 < most < card.settings.get("max_length", 0):
            # longer ones would be written, or read between their marks, beyond the last place
            changed[name] = replace(card, settings={**card.settings, "max_length": most})
        if isinstance(part, Part):
            if part.choice not in card.adapter:
                help = did_you_mean(part.choice, card.adapter, "it declares")
                raise CardError(f"modality {name} declares no adapter `{part.choice}` for {part.house}", help=help)
            own = {key for key in part.free if f"modalities.{name}.{key}" in given}
            theirs = {key: value for key, value in part.settings.items() if key not in own}
            _same_settings(name, part, theirs, card, given)
            for other in {each.name: each for each in cards.values()}.values():
                if other is card or (other.like == name and part.choice in other.adapter):
                    shared = theirs if other is card else {k: v for k, v in theirs.items() if k in other.shared}
                    changed[other.name] = _with_part(other, part.choice, shared)
    return {key: changed.get(card.name, card) for key, card in cards.items()}


def _with_part(card: ModalityCard, choice: str, settings: Mapping[str, Any]) -> ModalityCard:
    """The card with an adapter of its own as the default, and with the preprocess of that name."""
    return replace(
        card,
        adapter={**card.adapter, "default": card.adapter[choice]},
        preprocess={**card.preprocess, "default": card.preprocess.get(choice, card.preprocess["default"])},
        settings={**card.settings, **settings},
    )


def _same_settings(
    name: str, part: Part, settings: Mapping[str, Any], card: ModalityCard, given: Collection[str]
) -> None:
    for key, value in settings.items():
        full = f"modalities.{name}.{key}"
        asked: Any = card.settings.get(key)
        if asked != value and any(each == full or each.startswith(f"{full}.") for each in given):
            raise CheckpointError(
                f"{part.house} ({part.source}): {full} is {value} there, and {asked} is asked for",
                help="leave it out: the setting belongs to the weights",
            )
