"""YAML (node tree, so places are kept) -> ModalityCard, TaskCard; found by name; users' folders. No torch."""

from ofasys_lite.cards.find import find_card, find_task, modalities, modality, task_names
from ofasys_lite.cards.line_files import instruction_lines
from ofasys_lite.cards.load import load_modality_card, load_task_card
from ofasys_lite.cards.types import AttributeSpec, MetricSpec, ModalityCard, TaskCard

__all__ = [
    "AttributeSpec",
    "MetricSpec",
    "ModalityCard",
    "TaskCard",
    "find_card",
    "find_task",
    "instruction_lines",
    "load_modality_card",
    "load_task_card",
    "modalities",
    "modality",
    "task_names",
]
