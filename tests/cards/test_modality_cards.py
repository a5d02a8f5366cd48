import json
from dataclasses import asdict
from pathlib import Path

import pytest

from ofasys_lite.cards import AttributeSpec, instruction_lines, load_modality_card, modalities
from ofasys_lite.cards.overrides import with_settings
from ofasys_lite.cards.stored import stored_modalities
from ofasys_lite.errors import CardError, OfasysError
from ofasys_lite.instruction.places import Origin

HEAD = "name: SENSOR\npreprocess: my.sensor.Preprocess\nadapter: {default: my.sensor.Adapter, big: my.sensor.Big}\n"


def load(folder: Path, text: str) -> str:
    path = folder / "sensor.yaml"
    path.write_text(HEAD + text)
    with pytest.raises(OfasysError) as caught:
        load_modality_card(path)
    return str(caught.value)


def test_a_modality_card_arrives_whole(tmp_path: Path) -> None:
    path = tmp_path / "sensor.yaml"
    path.write_text(
        HEAD
        + "writes: later\nlosses: {ctc: now, mae: later}\nsettings: {rate: 16}\nmetric: accuracy\nattributes:\n"
        + "  rate: {type: int, low: 1, high: 9, side: source, help: a rate, default: 3}\n"
        + "  style: {type: choice, choices: [yes, no], help: a style, default: no}\n"
    )
    found = load_modality_card(path)
    assert found.preprocess == {"default": "my.sensor.Preprocess"}
    assert found.adapter == {"default": "my.sensor.Adapter", "big": "my.sensor.Big"}
    assert (found.reads, found.writes, found.losses) == ("now", "later", {"ctc": "now", "mae": "later"})
    assert found.attributes == (
        AttributeSpec("rate", "int", 1, 9, (), "source", "a rate", 3),
        AttributeSpec("style", "choice", None, None, ("yes", "no"), "both", "a style", "no"),
    )
    assert (found.settings, found.metric, found.path) == ({"rate": 16}, "accuracy", str(path))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("raeds: now", "did you mean `reads`?"),
        ("reads: soon", "`reads` cannot be `soon`"),
        ("losses: {ctc: maybe}", "allowed: now, later"),
        ("attributes: {rate: {type: integer, help: x}}", "did you mean `int`?"),
        ("attributes: {rate: {help: x}}", "has no `type`"),
        ("attributes: {rate: {type: int}}", "has no `help`"),
        ("attributes: {rate: {type: choice, help: x}}", "has no `choices`"),
        ("attributes: {rate: {type: int, help: x, side: left}}", "allowed: source, target, both"),
        ("attributes: {rate: {type: int, help: x, default: many}}", "`default` is `many`"),
        ("attributes: {rate: int}", "attribute `rate` is `int`"),
        ("aliases: [sensor]", "a modality cannot be called `sensor`"),
    ],
)
def test_a_mistake_in_a_modality_card_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    found = load(tmp_path, text + "\n")
    assert expected in found
    assert "sensor.yaml:4:" in found


def test_a_class_is_named_by_a_dotted_path(tmp_path: Path) -> None:
    path = tmp_path / "sensor.yaml"
    path.write_text(HEAD.replace("my.sensor.Big", "my/sensor.py:Big"))
    with pytest.raises(CardError, match=r"write package\.module\.Class"):
        load_modality_card(path)
    path.write_text("name: SENSOR\nadapter: my.Adapter\n")
    with pytest.raises(CardError, match="modality SENSOR has no default preprocess"):
        load_modality_card(path)


def test_ofasys_attributes_stand_where_ofasys_has_them() -> None:
    cards = modalities()
    expected = {
        "TEXT": "max_length min_length uncased no_punctuation mask_ratio noise_ratio closed_set disable_auto_boseos",
        "IMAGE": "mask_ratio length",
        "AUDIO": "n_frames_per_step use_mask",
        "MOTION": "min_length max_length sample_rate soft_trim window anchor_frame use_mask",
        "STRUCT": "uncased max_length",
        "CATEGORY": "closed_set",
    }
    for name, keys in expected.items():
        assert set(keys.split()) <= {spec.key for spec in cards[name].attributes}


def test_every_default_is_hashable_and_lies_in_its_range() -> None:
    for card in modalities().values():
        for spec in card.attributes:
            hash(spec.default)
            if spec.default is not None and spec.low is not None:
                assert spec.default >= spec.low


def test_the_library_of_lines_skips_comments_and_keeps_places(tmp_path: Path) -> None:
    (tmp_path / "vision.txt").write_text("# a comment\n\n[IMAGE:a] -> [TEXT:b]\n #[TEXT:a] -> [TEXT:b]\n")
    found = instruction_lines(tmp_path / "vision.txt")
    assert [text for text, _ in found] == ["[IMAGE:a] -> [TEXT:b]", " #[TEXT:a] -> [TEXT:b]"]
    assert found[0][1] == Origin(str(tmp_path / "vision.txt"), 3)


def test_a_card_like_another_has_its_adapter_and_its_settings(tmp_path: Path) -> None:
    folder = tmp_path / "modalities"
    folder.mkdir()
    (folder / "sensor.yaml").write_text(HEAD + "like: AUDIO\nsettings: {mels: 8, own: 1}\n")
    cards = modalities([tmp_path])
    card, audio = cards["SENSOR"], cards["AUDIO"]
    assert card.adapter_name == "audio"
    assert card.settings == {**audio.settings, "mels": 8, "own": 1}
    assert set(card.shared) == set(audio.settings) - {"mels"}
    changed = with_settings(cards, {"AUDIO": {"mels": 40, "channels": 16}, "SENSOR": {"own": 2}})
    assert changed["SENSOR"].settings["channels"] == 16  # of what it is like
    assert (changed["SENSOR"].settings["mels"], changed["SENSOR"].settings["own"]) == (8, 2)
    assert with_settings(cards, {"SENSOR": {"channels": 4}})["AUDIO"].settings["channels"] == audio.settings["channels"]
    for wrong in ("like: AUDOI", "like: SENSOR", "like: VIDEO"):
        (folder / "sensor.yaml").write_text(HEAD + wrong + "\n")
        with pytest.raises(CardError, match="`like` is"):
            modalities([tmp_path])


def test_the_settings_of_a_card_like_another_survive_an_export() -> None:
    card = modalities()["VIDEO"]
    stored = stored_modalities({"VIDEO": json.loads(json.dumps(asdict(card)))})["VIDEO"]
    assert (stored.like, stored.shared, stored.settings) == (card.like, card.shared, card.settings)
