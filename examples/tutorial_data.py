"""Writes requests.csv, the data of docs/tutorial.md: requests of hotel guests and the desk that serves them.

    python examples/tutorial_data.py [FILE] [ROWS]

The rows are generated from a fixed seed: columns `request` (a sentence), `desk` (kitchen, cleaning, taxi or repair)
and `room` (a number that stands in the sentence).
"""

from __future__ import annotations

import csv
import random
import sys
from pathlib import Path

#: Desk -> what is asked of it.
WISHES = {
    "kitchen": ("a pot of tea", "two sandwiches", "a bowl of soup", "some fresh fruit", "breakfast"),
    "cleaning": ("clean towels", "new pillows", "a mop for the floor", "fresh sheets", "an empty bin"),
    "taxi": ("a ride to the airport", "a car at nine", "a lift to the harbour", "a cab for three"),
    "repair": ("a new light bulb", "someone for the dripping tap", "a working heater", "help with the stuck door"),
}
FRAMES = (
    "room {room} would like {wish}",
    "{wish} for room {room}, please",
    "could you send {wish} to room {room}?",
    "guest in {room}: we need {wish}",
)


def rows(count: int, seed: int = 0) -> list[dict[str, str]]:
    """`count` rows of different sentences; each desk is drawn equally often, to within the draw."""
    draw = random.Random(seed)
    found: dict[str, dict[str, str]] = {}
    while len(found) < count:
        desk = draw.choice(sorted(WISHES))
        room = str(draw.randrange(100, 500))
        request = draw.choice(FRAMES).format(room=room, wish=draw.choice(WISHES[desk]))
        found[request] = {"request": request, "desk": desk, "room": room}
    return list(found.values())


def main(file: str = "requests.csv", count: str = "200") -> None:
    """Writes the file and says so."""
    with Path(file).open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, fieldnames=["request", "desk", "room"])
        writer.writeheader()
        writer.writerows(rows(int(count)))
    print(f"{file}: {count} rows")


if __name__ == "__main__":
    main(*sys.argv[1:])
