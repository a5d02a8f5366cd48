"""Tree + cards -> Plan; explain. No torch."""

from ofasys_lite.plan.build import build_plan, freeze
from ofasys_lite.plan.segments import GroupSegment, Plan, SlotSegment, WordsSegment, option, walk

__all__ = ["GroupSegment", "Plan", "SlotSegment", "WordsSegment", "build_plan", "freeze", "option", "walk"]
