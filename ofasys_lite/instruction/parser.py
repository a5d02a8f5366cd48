"""Text -> tree: one pass from left to right over the marks, in the reading order of the language."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from ofasys_lite.instruction.parse_values import MOST_DEPTH
from ofasys_lite.instruction.places import Origin
from ofasys_lite.instruction.quotes import inside_quotes
from ofasys_lite.instruction.reader import Reader, TooManyErrors, shorten
from ofasys_lite.instruction.slots import QUANTIFIER_START, read_quantifier, read_slot
from ofasys_lite.instruction.syntax_tree import Group, Instruction, Node, Sentence, Slot, Span, Template, Words
from ofasys_lite.instruction.templates import Mark, build_template

#: The types of the language itself; modality cards of users add theirs.
BUILTIN_TYPES: tuple[str, ...] = (
    "TEXT",
    "IMAGE",
    "BOX",
    "AUDIO",
    "PHONE",
    "VIDEO",
    "STRUCT",
    "MOTION",
    "CATEGORY",
    "CHAT",
    "BOUNDING_BOX",
)

_KNOWN = frozenset(BUILTIN_TYPES)
_ESCAPABLE = r"\|\|\||<->|->|;;|[\[\](){}|*<\\]"
_MARK = re.compile(rf"\\(?:{_ESCAPABLE})|\|\|\||<->|->|;;|[\[\]()|]")
_ESCAPE = re.compile(rf"\\({_ESCAPABLE})")
_CLOSES = {")": "(", "]": "["}
_LONG_ARROW = re.compile(r"<?-+>+")


def parse(
    text: str,
    *,
    types: Collection[str] | None = None,
    file: str | None = None,
    origin: Origin | None = None,
) -> Instruction:
    """The syntax tree of one instruction line, paraphrases included.

    Args:
        text: The line; line breaks in it are white space, quotes around the whole of it are not part of it.
        types: Type names (and aliases) of further modality cards, beside the built-in ones.
        file: Where the line stands, for messages; short for `origin=Origin(file)`.
        origin: File, line, column and indentation of the text, for messages; wins over `file`.

    Raises:
        InstructionError: The line does not parse. Several errors come as `InstructionErrors`, which is one too.

    Example:
        >>> tree = parse("[IMAGE:img] what is it? -> [TEXT:cap]")
        >>> tree.templates[0].targets[0].nodes[0].column
        'cap'
    """
    known, listed = _KNOWN, BUILTIN_TYPES
    if types is not None:
        known = _KNOWN.union(types)
        listed = BUILTIN_TYPES + tuple(sorted(known - _KNOWN))
    reader = Reader(_blanked(text), known, listed, origin or Origin(file))
    templates: tuple[Template, ...] = ()
    with suppress(TooManyErrors):
        templates = _Scan(reader).templates()
    if reader.errors:
        reader.raise_errors()
    return Instruction(templates, text)


def _blanked(text: str) -> str:
    """The text with blanks for the quotes around all of it, so that every place stays where it was."""
    start, end = inside_quotes(text)
    return " " * start + text[start:end] + " " * (len(text) - end)


@dataclass(slots=True)
class _Item:
    """A node among prompt text, or (node None) a `|`, which separates alternatives if it stands in a group."""

    start: int
    end: int
    node: Node | None = None
    depth: int = 0


@dataclass(slots=True)
class _Opening:
    """A parenthesis or bracket that may become a group: where it is, how many items and slots stood before it."""

    mark: str
    start: int
    items: int
    slots: int


@dataclass(slots=True)
class _Scan:
    """One pass over the text.

    Attributes:
        items: Slots, groups and bars of the sentence so far.
        openings: Its unpaired parentheses and brackets.
        open_marks: How many of each kind stand in `openings`, so that a lone closing mark costs nothing.
        dangling: The first unpaired opening of each kind in the sentences before.
    """

    reader: Reader
    items: list[_Item] = field(default_factory=list)
    openings: list[_Opening] = field(default_factory=list)
    open_marks: dict[str, int] = field(default_factory=lambda: {"(": 0, "[": 0})
    slots: int = 0
    dangling: dict[str, _Opening] = field(default_factory=dict)

    def templates(self) -> tuple[Template, ...]:
        """All templates of the line; what is wrong with them is on record."""
        reader = self.reader
        text = reader.text
        search = _MARK.search
        templates: list[Template] = []
        sentences: list[Sentence] = []
        marks: list[Mark] = []
        template_start = sentence_start = position = 0
        while (found := search(text, position)) is not None:
            start, position = found.span()
            mark = found.group()
            if mark == "[" or mark == "(":
                position = self._open(mark, start, position)
            elif mark == "]" or mark == ")":
                position = self._close(mark, start, position)
            elif mark == "|":
                if self.openings:
                    self.items.append(_Item(start, position))
            elif mark[0] != "\\":
                sentences.append(self._end_sentence(sentence_start, start))
                sentence_start = position
                if mark == "|||":
                    templates.append(build_template(reader, sentences, marks, Span(template_start, start), True))
                    sentences, marks, template_start = [], [], position
                else:
                    if mark != ";;":
                        position = sentence_start = self._check_arrow(start, position)
                    marks.append(Mark(mark, start))
        sentences.append(self._end_sentence(sentence_start, len(text)))
        span = Span(template_start, len(text))
        templates.append(build_template(reader, sentences, marks, span, bool(templates)))
        return tuple(templates)

    def _check_arrow(self, start: int, end: int) -> int:
        """Refuses `-->` and `->>`, which would leave a dash in the prompt; the offset after the arrow."""
        text = self.reader.text
        first, last = start, end
        while first and text[first - 1] == "-":
            first -= 1
        while text[last : last + 1] == ">":
            last += 1
        if (first, last) != (start, end):
            first -= first < start and text[first - 1 : first] == "<"
            arrow = "<->" if text[first] == "<" else "->"
            help = f"write `{arrow}`; as prompt text it is written `\\{arrow}`"
            self.reader.fail("E033", f"`{shorten(text[first:last])}` is no arrow", Span(first, last), help)
        return last

    def _open(self, mark: str, start: int, end: int) -> int:
        """Reads a slot, or notes an opening that may become a group; the offset where reading goes on."""
        if mark == "[":
            read = read_slot(self.reader, start)
            if read is not None:
                slot, end = read
                self.slots += 1
                return self._add(slot, start, end)
        self.openings.append(_Opening(mark, start, len(self.items), self.slots))
        self.open_marks[mark] += 1
        return end

    def _add(self, slot: Slot, start: int, end: int) -> int:
        """Puts the slot, or the group that its quantifier makes of it, among the items; the offset after it."""
        follows = self.reader.text[end : end + 1]
        quantifier = read_quantifier(self.reader, end) if follows and follows in "*{" else None
        if quantifier is None:
            self.items.append(_Item(start, end, slot))
            return end
        sentence = Sentence((slot,), Span(start, end))
        end = quantifier.span.end
        self.items.append(_Item(start, end, Group((sentence,), quantifier, Span(start, end)), 1))
        return end

    def _close(self, mark: str, start: int, end: int) -> int:
        """Pairs a closing mark; makes a group if a slot stands inside and a quantifier follows."""
        opening_mark = _CLOSES[mark]
        if not self.open_marks[opening_mark]:
            self._check_reach(opening_mark, start, end)
            return end
        while True:
            opening = self.openings.pop()
            self.open_marks[opening.mark] -= 1
            if opening.mark == opening_mark:
                break
        follows = self.reader.text[end : end + 1]
        if opening.slots == self.slots or not follows or follows not in "*{":
            return end
        quantifier = read_quantifier(self.reader, end)
        if quantifier is None:
            return end
        span = Span(opening.start, quantifier.span.end)
        items = self.items[opening.items :]
        del self.items[opening.items :]
        depth = 1 + max(item.depth for item in items)
        if depth == MOST_DEPTH + 1:
            help = "write a flat group, or a nested STRUCT column"
            self.reader.fail("E025", f"groups are nested more than {MOST_DEPTH} deep", Span(opening.start, end), help)
        if depth > MOST_DEPTH:
            items = []
        group = Group(self._alternatives(opening.start + 1, start, items), quantifier, span)
        self.items.append(_Item(span.start, span.end, group, depth))
        return span.end

    def _check_reach(self, mark: str, start: int, end: int) -> None:
        """Refuses a group whose opening stands on the other side of an arrow, `;;` or `|||`."""
        opening = self.dangling.get(mark)
        if opening is None or opening.slots == self.slots or QUANTIFIER_START.match(self.reader.text, end) is None:
            return
        del self.dangling[mark]
        self.reader.fail(
            "E032",
            f"the group that opens with `{mark}` reaches across an arrow, `;;` or `|||`",
            Span(start, end),
            f"close it on its own side; as prompt text the mark is written `\\{self.reader.text[start]}`",
        )

    def _alternatives(self, start: int, end: int, items: Sequence[_Item]) -> tuple[Sentence, ...]:
        """The sentences between the bars of a group."""
        alternatives: list[Sentence] = []
        first = 0
        for index, item in enumerate(items):
            if item.node is None:
                alternatives.append(self._sentence(start, item.start, items[first:index]))
                start, first = item.end, index + 1
        alternatives.append(self._sentence(start, end, items[first:] if first else items))
        return tuple(alternatives)

    def _end_sentence(self, start: int, end: int) -> Sentence:
        """The sentence that ends at a mark or at the end of the line."""
        sentence = self._sentence(start, end, self.items)
        self.items = []
        if self.openings:
            for opening in self.openings:
                self.dangling.setdefault(opening.mark, opening)
            self.openings = []
            self.open_marks = {"(": 0, "[": 0}
        return sentence

    def _sentence(self, start: int, end: int, items: Sequence[_Item]) -> Sentence:
        """Nodes and the words between them."""
        nodes: list[Node] = []
        position = start
        for item in items:
            if item.node is not None:
                self._words(nodes, position, item.start)
                nodes.append(item.node)
                position = item.end
        self._words(nodes, position, end)
        if not nodes:
            return Sentence((), Span(end, end))
        return Sentence(tuple(nodes), Span(nodes[0].span.start, nodes[-1].span.end))

    def _words(self, nodes: list[Node], start: int, end: int) -> None:
        """Appends the prompt text between two offsets, if there is any."""
        raw = self.reader.text[start:end]
        words = raw.strip()
        if words:
            start += len(raw) - len(raw.lstrip())
            span = Span(start, start + len(words))
            nodes.append(Words(_ESCAPE.sub(r"\1", words) if "\\" in words else words, span))
