"""Dates, numbers and times in five languages, as one would write them out.

Month and weekday names and the rules for numerals are those of CLDR's long formats and spell-out rules.
"""

from __future__ import annotations

import datetime

from ofasys_lite.recipes.fetch import contents

#: Language -> what it is called in English; its months, weekdays, form of a date and numerals stand beside it.
_WORDS = contents("languages.json")
LANGUAGES = {language: words["name"] for language, words in _WORDS.items()}


def date(day: datetime.date, language: str) -> str:
    """A date in full: `Wednesday, March 3, 2021`."""
    words = _WORDS[language]
    text: str = words["date"].format(
        day=words["days"][day.weekday()],
        month=words["months"][day.month - 1],
        d="1er" if language == "fr" and day.day == 1 else day.day,
        y=day.year,
    )
    return text


def number(value: int, language: str) -> str:
    """A number from 0 to 9999 in words: `three hundred forty-two`."""
    if value < 100:
        return _below_hundred(value, language)
    thousands, below = divmod(value, 1000)
    hundreds, rest = divmod(below, 100)
    parts = [_thousands(thousands, language), _hundreds(hundreds, rest, language)]
    parts.append(_below_hundred(rest, language) if rest else "")
    joined = ("" if language == "de" else " ").join(part for part in parts if part)
    # Dutch joins hundreds with what follows and leaves a space after a thousand
    return joined.replace("honderd ", "honderd") if language == "nl" else joined


def _below_hundred(value: int, language: str) -> str:
    units: list[str] = _WORDS[language]["units"]
    if value < len(units):
        return units[value]
    tens, unit = divmod(value, 10)
    ten: str = _WORDS[language]["tens"][tens - 2]
    if language == "fr":
        return _french(tens, unit, ten, units)
    if unit == 0:
        return ten
    if language == "de":
        return ("ein" if unit == 1 else units[unit]) + "und" + ten
    if language == "nl":
        return units[unit] + ("ën" if units[unit].endswith("e") else "en") + ten
    return f"{ten} y {units[unit]}" if language == "es" else f"{ten}-{units[unit]}"


def _french(tens: int, unit: int, ten: str, units: list[str]) -> str:
    if tens in (7, 9):
        unit += 10
    if tens == 8 and unit == 0:
        return "quatre-vingts"
    if unit == 0:
        return ten
    if unit in (1, 11) and tens < 8:
        return f"{ten} et {units[unit]}"
    return f"{ten}-{units[unit]}"


def _thousands(count: int, language: str) -> str:
    if count == 0:
        return ""
    word = {"en": "thousand", "de": "tausend", "fr": "mille", "es": "mil", "nl": "duizend"}[language]
    if count == 1:
        return {"en": "one thousand", "de": "eintausend"}.get(language, word)
    unit: str = _WORDS[language]["units"][count]
    return unit + ("" if language in ("de", "nl") else " ") + word


def _hundreds(count: int, rest: int, language: str) -> str:
    if count == 0:
        return ""
    unit: str = _WORDS[language]["units"][count]
    if language == "es":
        return "cien" if count == 1 and rest == 0 else str(_WORDS["es"]["hundreds"][count - 1])
    if language == "fr":
        return "cent" if count == 1 else f"{unit} cent" + ("s" if rest == 0 else "")
    if language == "de":
        return ("ein" if count == 1 else unit) + "hundert"
    if language == "nl":
        return ("" if count == 1 else unit) + "honderd"
    return f"{unit} hundred"


def time(hour: int, minute: int, language: str) -> str:
    """A time of day on the 12-hour clock, in steps of five minutes, in words: `half past three`."""
    following = hour % 12 + 1
    if language == "es":
        return _spanish_time(hour, following, minute)
    if language == "fr":
        return _french_time(hour, following, minute)
    now, then = (number(each, language) for each in (hour, following))
    minutes = number(abs(minute), language)
    if language == "en":
        exact = {0: f"{now} o'clock", 15: f"quarter past {now}", 30: f"half past {now}", 45: f"quarter to {then}"}
        other = f"{minutes} past {now}" if minute < 30 else f"{number(60 - minute, language)} to {then}"
        return exact.get(minute, other)
    half, before, after = ("halb", "vor", "nach") if language == "de" else ("half", "voor", "over")
    quarter = "Viertel" if language == "de" else "kwart"
    if minute == 0:
        return ("ein" if language == "de" and hour == 1 else now) + (" Uhr" if language == "de" else " uur")
    near = {15: f"{quarter} {after} {now}", 30: f"{half} {then}", 45: f"{quarter} {before} {then}"}
    near |= {25: f"fünf vor halb {then}", 35: f"fünf nach halb {then}"} if language == "de" else {}
    if language == "nl":
        near |= {20: f"tien voor half {then}", 25: f"vijf voor half {then}"}
        near |= {35: f"vijf over half {then}", 40: f"tien over half {then}"}
    other = f"{minutes} {after} {now}" if minute < 30 else f"{number(60 - minute, language)} {before} {then}"
    return near.get(minute, other)


def _spanish_time(hour: int, following: int, minute: int) -> str:
    def named(value: int) -> str:
        return "la una" if value == 1 else f"las {number(value, 'es')}"

    parts = {15: "cuarto", 30: "media"}
    if minute == 0:
        return f"{named(hour)} en punto"
    if minute <= 30:
        return f"{named(hour)} y {parts.get(minute, number(minute, 'es'))}"
    left = 60 - minute
    return f"{named(following)} menos {parts.get(left, number(left, 'es'))}"


def _french_time(hour: int, following: int, minute: int) -> str:
    def named(value: int) -> str:
        return "midi" if value == 12 else "une heure" if value == 1 else f"{number(value, 'fr')} heures"

    if minute == 0:
        return named(hour)
    if minute <= 30:
        half = "et demi" if hour == 12 else "et demie"
        return f"{named(hour)} " + {15: "et quart", 30: half}.get(minute, number(minute, "fr"))
    left = 60 - minute
    return f"{named(following)} moins " + {15: "le quart"}.get(left, number(left, "fr"))
