"""The codes of syntax errors and their short meanings, in one place.

E0xx are mistakes in the text itself and are raised here. The rooms below raise E1xx (types and attributes), E2xx
(sense) and E3xx (the line against its data); nothing in this room uses those.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: Groups in groups, and lists and calls in one another, may be this deep.
MOST_DEPTH = 16

#: Reading stops after this many errors in one line.
MOST_ERRORS = 10

SYNTAX_CODES: Mapping[str, str] = MappingProxyType(
    {
        "E001": "the line is empty",
        "E002": "a template has no arrow",
        "E003": "a template has more than one arrow",
        "E004": "`->` and `<->` in one template",
        "E005": "nothing on either side of `->`",
        "E006": "a side of `<->` has no slot",
        "E007": "`;;` left of the arrow",
        "E008": "`;;` beside `<->`",
        "E009": "an empty target beside `;;`",
        "E010": "an empty paraphrase beside `|||`",
        "E011": "unknown type in a slot",
        "E012": "a type is followed by neither `:` nor `,` nor `]`",
        "E013": "a slot is not closed",
        "E014": "a column name is missing",
        "E015": "a column name that needs quotes",
        "E016": "`?` or `>` without a column",
        "E017": "`?` and `>` do not go together, and each stands once",
        "E018": "a preference pair without its second column",
        "E019": "an attribute name is missing",
        "E020": "a value is missing",
        "E021": "a value that needs quotes",
        "E022": "a list without values",
        "E023": "a list or call is not closed",
        "E024": "a quote is not closed",
        "E025": "nested too deeply",
        "E026": "something else where `,` or the end of the slot should stand",
        "E027": "a quantifier is not complete",
        "E028": "the bounds of a quantifier are reversed",
        "E029": "the bounds of a quantifier are out of range",
        "E030": "two quantifiers after one another",
        "E031": "the attributes of a quantifier are not closed",
        "E032": "a group reaches across an arrow or `;;` or `|||`",
        "E033": "an arrow of another length",
        "E034": "too many errors in one line",
    }
)
