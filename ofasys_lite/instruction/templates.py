"""The form of one template: sentences and the marks between them -> source and targets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ofasys_lite.instruction.reader import Reader
from ofasys_lite.instruction.syntax_tree import Sentence, Span, Template, Words

_LIKE_AN_ARROW = re.compile(r"=>|<=>|- >|[–—−]>|[→⇒⟶⇨➔]|<-|↔|⇔")


@dataclass(frozen=True, slots=True)
class Mark:
    """An arrow or `;;` and its offset."""

    text: str
    start: int

    @property
    def span(self) -> Span:
        """Its characters."""
        return Span(self.start, self.start + len(self.text))


def build_template(
    reader: Reader, sentences: Sequence[Sentence], marks: Sequence[Mark], span: Span, several: bool
) -> Template:
    """The template between two `|||`; what is wrong with its form is on record.

    Args:
        sentences: What stands before, between and after the marks: one more than marks.
        marks: Arrows and `;;` in order.
        span: From the mark before to the mark after.
        several: Whether the line has further templates.
    """
    raw = reader.text[span.start : span.end]
    start = span.start + len(raw) - len(raw.lstrip())
    span = Span(start, max(start, span.start + len(raw.rstrip())))
    arrows = [mark for mark in marks if mark.text != ";;"]
    if len(arrows) != 1:
        _refuse_arrows(reader, marks, arrows, span, several)
        return Template(sentences[0], tuple(sentences[1:]), False, span)
    arrow = arrows[0]
    template = Template(sentences[0], tuple(sentences[1:]), arrow.text == "<->", span)
    if len(marks) > 1:
        _check_further_targets(reader, template, marks, arrow)
    elif template.align:
        _check_sides(reader, template, arrow)
    elif not template.source.nodes and not template.targets[0].nodes and not reader.lost_mark:
        reader.fail("E005", "nothing stands on either side of `->`", arrow.span, _FORM)
    return template


_FORM = "left of `->` is what the model reads, right of it what it writes: [IMAGE:img] what is it? -> [TEXT:cap]"


def _refuse_arrows(reader: Reader, marks: Sequence[Mark], arrows: Sequence[Mark], span: Span, several: bool) -> None:
    """Puts a missing or a second arrow on record."""
    end = Span(span.end, span.end)
    if arrows:
        first, *others = arrows
        loose = [arrow for arrow in arrows if not _inside_a_word(reader.text, arrow)]
        if len(loose) == 1:
            others = [arrow for arrow in arrows if arrow is not loose[0]]
        for arrow in others:
            mixed = {arrow.text, first.text} == {"->", "<->"}
            message = "`->` and `<->` stand in one template" if mixed else f"a second `{arrow.text}` in one template"
            help = (
                f"as prompt text it is written `\\{arrow.text}`; "
                "a further target follows `;;`, a paraphrase of the task follows `|||`"
            )
            reader.fail("E004" if mixed else "E003", message, arrow.span, help)
    elif not marks and not reader.text[span.start : span.end].strip():
        if several:
            help = "`|||` stands between two templates, each with its own arrow; as prompt text it is written `\\|||`"
            reader.fail("E010", "nothing stands beside `|||`", end, help)
        else:
            reader.fail("E001", "the line is empty", end, _FORM)
    elif not reader.lost_mark:
        near = _LIKE_AN_ARROW.search(reader.text, span.start, span.end)
        where = Span(*near.span()) if near else end
        hint = f"did you mean `->` for `{near.group()}`? " if near else ""
        reader.fail("E002", "the template has no arrow", where, hint + _FORM)


def _inside_a_word(text: str, arrow: Mark) -> bool:
    start, end = arrow.span.start, arrow.span.end
    return start > 0 and text[start - 1].isalnum() and text[end : end + 1].isalnum()


def _check_further_targets(reader: Reader, template: Template, marks: Sequence[Mark], arrow: Mark) -> None:
    """`;;` stands right of `->` only, with something on both sides."""
    help = "a further target follows the first: ... -> [TEXT:a] ;; [TEXT:b]; as prompt text it is written `\\;;`"
    for index, mark in enumerate(marks):
        if mark is arrow:
            continue
        if template.align:
            reader.fail("E008", "`;;` cannot stand beside `<->`", mark.span, help)
        elif mark.start < arrow.start:
            reader.fail("E007", "`;;` stands left of the arrow", mark.span, help)
        elif not template.targets[index].nodes or not template.targets[index - 1].nodes:
            reader.fail("E009", "an empty target stands beside `;;`", mark.span, help)


def _check_sides(reader: Reader, template: Template, arrow: Mark) -> None:
    """Both sides of `<->` are embedded from data, so each has a slot."""
    for side, where in ((template.source, "left"), (template.targets[0], "right")):
        if all(isinstance(node, Words) for node in side.nodes):
            help = "`<->` aligns data with data: [IMAGE:img] <-> a photo of [TEXT:cap]; to write words use `->`"
            reader.fail("E006", f"no slot stands {where} of `<->`", arrow.span, help)
