import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ofasys_lite.metrics import evaluate_metric, margin
from ofasys_lite.report import Baseline, RefusedRow, RunResults, Sample, SampleInput, TaskResult

MINUTES, STEPS, LOGGED = 12, 3000, 60
SPEECH = {"array": np.sin(np.cumsum(np.linspace(0.05, 0.9, 16000))) * np.hanning(16000), "sampling_rate": 16000}


def scene(seed, size=96):
    """A picture of shapes with their boxes, as PNG bytes and records."""
    generator = np.random.default_rng(seed)
    image = Image.new("RGB", (size, size), (245, 245, 240))
    draw = ImageDraw.Draw(image)
    objects = []
    for i in range(3):
        x, y = (int(v) for v in (4 + 30 * i + generator.integers(0, 6), generator.integers(4, 60)))
        box = [x, y, x + 22, y + 26]
        colour = ["#c92a2a", "#1864ab", "#2b8a3e"][int(generator.integers(3))]
        (draw.ellipse if generator.integers(2) else draw.rectangle)(box, fill=colour)
        objects.append({"box": box, "label": str(int(generator.integers(10)))})
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue(), objects


def result(task, instruction, name, predictions, references, baselines, samples):
    groups = [str(i // 3) for i in range(len(references))]
    scored = tuple(
        Baseline(title, kind, evaluate_metric(name, values, references, groups, samples=200))
        for title, kind, values in baselines
    )
    trivial = [(b, values) for b, (_, kind, values) in zip(scored, baselines, strict=True) if kind == "trivial"]
    best = max(trivial, key=lambda pair: pair[0].score.value * (1 if pair[0].score.higher_is_better else -1))
    return TaskResult(
        task,
        instruction,
        evaluate_metric(name, predictions, references, groups, samples=200),
        scored,
        margin(name, predictions, best[1], references, groups, samples=200),
        samples,
    )


def noisy(references, share, wrong, seed=0):
    draw = np.random.default_rng(seed).random(len(references))
    return [r if d < share else wrong for r, d in zip(references, draw, strict=True)]


def history(tasks):
    rows = []
    for i in range(1, LOGGED + 1):
        done = i / LOGGED
        place = {"step": int(done * STEPS), "time": done * MINUTES * 60}
        rows.append({**place, "kind": "step", "tokens_per_second": 7000 + 300 * np.sin(i)})
        for t, task in enumerate(tasks):
            for s, slot in enumerate(["label"] if t % 3 else ["label", "box"]):
                loss = (2.3 + s) * np.exp(-3 * done / (1 + t / 4)) + 0.05 * np.sin(7 * i + t)
                rows.append(
                    {
                        **place,
                        "kind": "train",
                        "task": task,
                        "slot": slot,
                        "loss": abs(loss),
                        "chance": 2.3 + s,
                        "tokens": 800 + 90 * t,
                        "samples": 40 - 2 * t,
                    }
                )
            if i % 12 == 0:
                rows.append({**place, "kind": "valid", "task": task, "metric": "accuracy", "value": 0.9 * done})
    return rows


def picture_tasks():
    digits = [str(i % 10) for i in range(300)]
    scenes = [scene(i) for i in range(60)]
    boxes = [objects[0]["box"] for _, objects in scenes]
    near = [[v + 3 for v in box] for box in boxes]
    lists = [objects for _, objects in scenes]
    shown = [
        Sample(
            [SampleInput("img", "IMAGE", png), SampleInput("label", "TEXT", f"the {o[0]['label']}")],
            n,
            o[0]["box"],
            True,
            id=f"scene-{i:04d}",
        )
        for i, ((png, o), n) in enumerate(zip(scenes[:4], near, strict=False))
    ]
    half = [objects[:2] for objects in lists]
    return [
        result(
            "digits",
            "[IMAGE:img] what is the digit? -> [TEXT:label,closed_set]",
            "accuracy",
            noisy(digits, 0.96, "0"),
            digits,
            [("majority", "trivial", ["0"] * 300), ("nearest_pixels", "reference", noisy(digits, 0.94, "0", 1))],
            tuple(
                Sample([SampleInput("img", "IMAGE", scenes[i][0])], p, r, p == r)
                for i, (p, r) in enumerate([("3", "3"), ("7", "1"), ("4", "4")])
            ),
        ),
        result(
            "grounding",
            '[IMAGE:img] which region does the text " [TEXT:label] " describe? -> [BOX:box]',
            "iou_at_0.5",
            near,
            boxes,
            [
                ("mean_box", "trivial", [[10, 20, 40, 50]] * 60),
                ("label_blind_box", "trivial", [o[1]["box"] for o in lists]),
            ],
            tuple(shown),
        ),
        result(
            "detection",
            "[IMAGE:img] what are the objects in the image? -> ([BOX:box] [TEXT:label])*<over=objects>",
            "detection_f1",
            half,
            lists,
            [("constant_list", "trivial", [[]] * 60)],
            tuple(
                Sample([SampleInput("img", "IMAGE", png)], objects[:2], objects, False) for png, objects in scenes[4:7]
            ),
        ),
    ]


def text_tasks():
    phones = ["HH AH L OW", "K AE T", "D AO G"] * 60
    words = ["turn on the lamp", "open the door <b>now</b>", "Öffne die Tür", "打开灯"] * 45
    slots = [{"intent": "light.turn_on", "room": "kitchen", "level": i % 5} for i in range(120)]
    grid = [[1, 2, 3, 4], [3, 4, 1, 2], [2, 1, 4, 3], [4, 3, 2, 1]]
    return [
        result(
            "g2p",
            "[TEXT:word] how is it spoken? -> [PHONE:phones]",
            "per",
            noisy(phones, 0.8, "K AE T S"),
            phones,
            [("majority", "trivial", ["K AE T"] * 180), ("letter_phones", "reference", noisy(phones, 0.6, "AE"))],
            (
                Sample([SampleInput("word", "TEXT", "hello")], "HH EH L OW", "HH AH L OW", False),
                Sample([SampleInput("word", "TEXT", "cat")], "K AE T", "K AE T", True),
            ),
        ),
        result(
            "asr",
            "[AUDIO:wav,loss=ctc(text,weight=0.3)] what is said? -> [TEXT:text]",
            "wer",
            noisy(words, 0.97, "turn"),
            words,
            [("majority", "trivial", [words[0]] * 180)],
            (Sample([SampleInput("wav", "AUDIO", SPEECH)], "turn on the lamp", "turn on the lamp", True),),
        ),
        result(
            "translate",
            "translate to German: [TEXT:en] -> [TEXT:de]",
            "chrf",
            noisy(words, 0.02, "gar nichts"),
            words,
            [("copy", "trivial", noisy(words, 0.02, "gar nicht", 1)), ("unigram", "trivial", ["die"] * 180)],
            (Sample([SampleInput("en", "TEXT", "Open the <script>alert(1)</script> door")], "Tür", "Öffne die Tür"),),
        ),
        result(
            "intent",
            "[TEXT:utterance] -> [STRUCT:slots]",
            "slot_f1",
            noisy(slots, 0.9, {}),
            slots,
            [("majority", "trivial", [slots[0]] * 120), ("nearest_tfidf", "reference", noisy(slots, 0.85, {}))],
            (Sample([SampleInput("utterance", "TEXT", "lamp on in the kitchen")], slots[0], slots[1], False),),
        ),
        result(
            "sudoku",
            '" [STRUCT:puzzle] " . solve the sudoku . -> [STRUCT:solution]',
            "sudoku_solved",
            noisy([grid] * 90, 0.64, None),
            [grid] * 90,
            [("copy", "trivial", [None] * 90)],
            (
                Sample(
                    [SampleInput("puzzle", "STRUCT", [[1, 0, 0, 4], [0, 4, 1, 0], [2, 0, 0, 3], [0, 3, 2, 0]])],
                    grid,
                    grid,
                    True,
                ),
            ),
        ),
    ]


@pytest.fixture(scope="session")
def run():
    tasks = tuple(picture_tasks() + text_tasks())
    facts = {
        "model": "small: 3 + 2 layers, width 256",
        "parameters": "5,712,384",
        "data": "quickstart, 41.2 MB, sha1 splits",
        "training": "12.0 minutes, 3,000 steps, 192,000 samples",
        "precision": "bfloat16 (AMX found)",
        "machine": "2 CPU cores, 24 GiB",
        "seed": 0,
    }
    quarantine = [RefusedRow("digits", "row 812", "cannot read image: file is truncated (40 of 1,203 bytes)")]
    return RunResults("quickstart", facts, tasks, history([task.task for task in tasks]), quarantine)
