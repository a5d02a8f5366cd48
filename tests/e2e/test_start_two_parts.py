"""One generalist whose text and whose pictures begin with weights of others: trained together, resumed, exported."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file

from ofasys_lite.commands.train import main
from ofasys_lite.generalist.generalist import Generalist

pytest.importorskip("tokenizers", reason="tokenizers is not installed")
FIXTURES = Path(__file__).resolve().parents[1] / "fixtures"
COLOURS = {"red": (200, 30, 30), "blue": (30, 30, 200), "plum": (140, 60, 140)}
TASKS = {
    "caption": "[IMAGE:img] what is the colour? -> [TEXT:cap,uncased]",
    "colour": "[IMAGE:img] which colour -> [TEXT:colour,closed_set]",
}
COMMAND = [
    *("model=tiny", "trainer.workers=0", "trainer.valid_every=0", "trainer.threads=1", "evaluate=false"),
    *("trainer.schedule=constant", "trainer.warmup=0", "trainer.samples_per_step=6", "+trainer.progress=false"),
    *(f"+tasks.{name}.instruction={line}" for name, line in TASKS.items()),
    *(f"+tasks.{name}.data.train=rows.csv" for name in TASKS),
]
#: Run in a process of its own; the first argument names what cannot be imported.
USE = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(f"no {name} here", name=name)

sys.meta_path.insert(0, Blocked())
from ofasys_lite import GeneralistModel

model = GeneralistModel.from_pretrained(sys.argv[2], device="cpu")
print(model.predict("colour", [{"img": "red.png"}])[0].text)
print(model.predict("caption", [{"img": "red.png"}])[0].text)
"""


@pytest.mark.slow
def test_text_and_pictures_of_others_learn_two_tasks_go_on_bit_for_bit_and_load_without_their_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, colour in COLOURS.items():
        Image.new("RGB", (32, 32), colour).save(f"{name}.png")
    rows = [f"{name}.png,what is the {size} {name} bus,{name}" for name in COLOURS for size in ("small", "large") * 5]
    Path("rows.csv").write_text("img,cap,colour\n" + "\n".join(rows) + "\n", encoding="utf-8")
    shutil.copytree(FIXTURES / "hugging_face" / "bert", "bert")
    shutil.copytree(FIXTURES / "vision_tower" / "clip", "clip")
    start = ["start.text=bert", "start.image=clip"]
    main(["name=still", "steps=1", *COMMAND, *start, "trainer.lr=1e-9", "trainer.weight_decay=0", "trainer.ema=0"])
    still = Generalist.from_pretrained("runs/still", "cpu")
    assert {name: said["house"] for name, said in still.parts.items()} == {"TEXT": "BERT", "IMAGE": "CLIP"}
    held = load_file("bert/model.safetensors")["encoder.layer.0.attention.self.query.weight"]
    own = still.network.state_dict()["body.encoder.0.attention.qkv.weight"][: len(held)]
    assert (own - held).abs().max() < 1e-6

    main(["name=whole", "steps=4", *COMMAND, *start])
    main(["name=cut", "steps=2", *COMMAND, *start])
    shutil.rmtree("bert")
    shutil.rmtree("clip")
    main(["resume=runs/cut", "steps=4", "evaluate=false"])
    whole, cut = (Generalist.from_pretrained(f"runs/{name}", "cpu") for name in ("whole", "cut"))
    moved = 0
    for name, value in whole.network.state_dict().items():
        assert value.equal(cut.network.state_dict()[name]), name
        moved += not value.equal(still.network.state_dict()[name])
    assert moved > 100

    def use(blocked: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-c", USE, blocked, "runs/cut"]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)

    done = use("transformers,timm,torchvision")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] in COLOURS
    # what cuts the words of a line into the house's pieces is `tokenizers`, and it is told
    lacking = use("transformers,timm,torchvision,tokenizers")
    assert "the text model of these weights needs tokenizers" in lacking.stderr
