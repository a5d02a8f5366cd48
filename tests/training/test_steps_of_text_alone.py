"""What only pictures, codes or objectives over a step need is not called for texts."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import numpy as np
import tiny_worlds as worlds
import torch

from ofasys_lite.generalist.sections import sections_of, used
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.training.accounting import RunTerms, unit_weights

FILES = ("codes.py", "judging.py", "judges.py", "judged.py", "judged_targets.py", "depth_heads.py", "infilling.py")
FILES += ("codecs.py", "codec_facts.py", "whole_step.py", "step_look.py", "rendering.py", "image_codes.py")
FUNCTIONS = ("merge_taps", "look", "looked")


def test_a_step_of_texts_calls_nothing_of_codes_judges_infilling_or_the_whole_step() -> None:
    prepared = worlds.ready(worlds.tasks("spell", "sound", "record"))
    network = worlds.generalist(prepared).network
    sections = sections_of(network)
    terms = RunTerms([t for task in prepared.tasks for t in task.maker.terms()], [t.card.name for t in prepared.tasks])
    called: set[str] = set()

    def seen(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and "ofasys_lite" in code.co_filename:
            called.add(f"{code.co_filename.rpartition('ofasys_lite/')[2]} {code.co_name}")

    sys.setprofile(seen)
    try:
        examples = []
        for task in prepared.tasks:
            source = task.sources["train"]
            examples += [task.maker.example(source.row(i), str(i), np.random.default_rng(i), True) for i in range(3)]
        batch = collate(examples)
        weights = unit_weights(batch, terms, terms.count([batch]), "share")[0]
        assert used(sections, batch)
        losses = network(to_device(batch, torch.device("cpu")), 0.1)
    finally:
        sys.setprofile(None)
    (losses.values_U * torch.from_numpy(weights)).sum().backward()
    assert any("layout/collate.py collate" in name for name in called)
    idle = {name for name in called if name.split()[0].rpartition("/")[2] in FILES or name.split()[1] in FUNCTIONS}
    assert idle == set()
    assert [(rows.objective.name, rows.adapter) for rows in batch.losses] == [("cross_entropy", "text")]
