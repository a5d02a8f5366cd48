"""Text -> syntax tree with spans -> canonical text. No torch, no yaml, nothing is imported, evaluated or opened."""

from ofasys_lite.instruction.canonical import unparse
from ofasys_lite.instruction.parser import BUILTIN_TYPES, parse
from ofasys_lite.instruction.places import Origin, place_of

__all__ = ["BUILTIN_TYPES", "Origin", "parse", "place_of", "unparse"]
