"""Whether what a model says is understood: word error of its own recogniser on what its `tts` wrote.

    ofasys-lite train tasks=[tts,speech] model=quick steps=1200 minutes=null name=tts \
        '+modalities.AUDIO={sample_rate: 8000, mels: 40, frames_per_row: 2, max_seconds: 2.0}' \
        'trainer.optimizer={path: muon, lr: 3.0}' trainer.lr=0.0008 trainer.samples_per_step=32 data.pieces=500 \
        tasks.speech.weight=0.7 evaluate=false
    python benchmarks/spoken.py runs/tts --sheet docs/results/spoken.png

Phrases of the test split, whose voices neither task was trained on: spoken by the model for several passes and
guidance, the recordings, the recordings through the same vocoder (the ceiling), and what was spoken against shuffled
phrases (the floor). A line with `loss=frames` is tried without passes. Intervals are over phrases. No recogniser of
others that knows single words was found.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import RESULTS, commit, machine

from ofasys_lite import GeneralistModel
from ofasys_lite.metrics import evaluate_metric
from ofasys_lite.preprocess.audio import read_audio, wanted_frames
from ofasys_lite.preprocess.audio_features import log_mel
from ofasys_lite.preprocess.audio_written import FLOOR, AudioWriting
from ofasys_lite.report.task_rows import open_task

#: (passes of the decoder, guidance); of a line that writes row after row guidance alone
TRIED = ((4, 1.0), (16, 1.0), (4, 2.0), (8, 2.0), (16, 2.0), (32, 2.0), (16, 3.0))
FOLLOWED = ((None, 3.0), (None, 2.0), (None, 1.0))


def phrases(model: GeneralistModel, limit: int) -> list[dict[str, Any]]:
    """Rows of the test split, drawn by seed 0."""
    source = open_task(model.generalist.entry("tts").card, None)["test"]
    chosen = np.random.default_rng(0).permutation(len(source))[:limit]
    return [dict(source.row(int(i))) for i in chosen]


def error(said: Sequence[str], wanted: Sequence[str]) -> dict[str, float]:
    """Word error and its interval over phrases."""
    found = evaluate_metric("wer", list(said), list(wanted), list(wanted))
    return {"wer": round(found.value, 3), "low": round(found.low, 3), "high": round(found.high, 3)}


def main() -> None:
    """Prints the table, writes it to benchmarks/results/spoken.json (spoken_frames.json)."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--limit", type=int, default=216)
    parser.add_argument("--sheet", type=Path, help="a PNG: spectrograms of recordings and of what was spoken")
    given = parser.parse_args()
    model = GeneralistModel.from_pretrained(given.run)
    tool = next(t for t in model.generalist.maker("tts").preprocess.values() if isinstance(t, AudioWriting))
    rows = phrases(model, given.limit)
    texts = [row["text"] for row in rows]
    real = [read_audio(row["audio"], None, None, 60.0) for row in rows]
    frames = wanted_frames(tool.settings, ())

    def heard(sounds: Sequence[Any]) -> list[str]:
        return [p.text for p in model.predict("speech", [{"audio": sound} for sound in sounds])]

    through = [(tool.vocode(np.maximum(log_mel(x, frames), FLOOR)), frames.rate) for x, _ in real]
    table: list[dict[str, Any]] = [
        {"what": "recordings", **error(heard(real), texts)},
        {"what": "recordings through the vocoder", **error(heard(through), texts)},
    ]
    spoken: list[Any] = []
    followed = model.generalist.entry("tts").plan.decoding()["method"] == "frames"
    for steps, cfg in FOLLOWED if followed else TRIED:
        begin = time.process_time()
        passes = {} if steps is None else {"steps": steps}
        made = model.predict("tts", [{"text": text} for text in texts], cfg=cfg, **passes)
        spent = time.process_time() - begin
        spoken = [p.values["audio"] for p in made]
        seconds = sum(len(samples) / rate for samples, rate in spoken)
        said = heard(spoken)
        row = {"what": "spoken", "steps": steps, "cfg": cfg, **error(said, texts)}
        shuffled = [texts[i] for i in np.random.default_rng(1).permutation(len(texts))]
        row |= {"shuffled": error(said, shuffled)["wer"], "cpu_s_a_second": round(spent / seconds, 3)}
        row["mcd"] = round(evaluate_metric("mcd", spoken, real, texts).value, 2)
        table.append(row)
        print(json.dumps(row), flush=True)
    for row in table[:2]:
        print(json.dumps(row))
    found = {"benchmark": "spoken", "commit": commit(), "machine": machine(), "phrases": len(texts), "table": table}
    name = "spoken_frames.json" if followed else "spoken.json"
    (RESULTS / name).write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if given.sheet:
        sheet(texts, real, spoken, given.sheet)


def sheet(texts: Sequence[str], real: Sequence[Any], spoken: Sequence[Any], path: Path) -> None:
    """Spectrograms of six phrases: above the recording, below what was spoken (the last settings tried)."""
    from PIL import Image, ImageDraw

    from ofasys_lite.report.sample_pictures import spectrogram

    first = list(dict.fromkeys(texts))[:6]
    wide, high, gap = 300, 90, 18
    page = Image.new("RGB", (3 * (wide + 8) + 8, 2 * (2 * (high + gap) + 12)), "white")
    draw = ImageDraw.Draw(page)
    for place, text in enumerate(first):
        number = texts.index(text)
        left, top = 8 + (place % 3) * (wide + 8), (place // 3) * (2 * (high + gap) + 12)
        for line, (name, sound) in enumerate((("recording", real[number]), ("spoken", spoken[number]))):
            y = top + line * (high + gap)
            draw.text((left, y + 3), f"{name}: {text}", fill="black")
            page.paste(spectrogram(sound, wide, high), (left, y + gap))
    page.quantize(64).save(path, optimize=True)


if __name__ == "__main__":
    main()
