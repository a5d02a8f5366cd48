"""Small random encoders as transformers saves them; run as a script it writes the stored reference of BERT again.

python tests/interop/encoder_folders.py      # needs transformers
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "hugging_face" / "bert"
SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}
#: Words of the small vocabulary, behind its letters.
WORDS = "plum bus saw which colour word red blue small large the a is what un ##s ##ing ##able and"
ROWS = ((2, 30, 31, 40, 3), (50, 51, 60, 61, 33, 40, 7, 9), (5,))


def vocabulary() -> list[str]:
    """The lines of vocab.txt."""
    letters = [chr(97 + n) for n in range(26)]
    signs = [*"0123456789", *".,?!-'"]
    return [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *letters,
        *(f"##{x}" for x in letters),
        *signs,
        *WORDS.split(),
    ]


def saved(folder: Path, kind: str, head: bool = False, **changes: Any) -> Path:
    """A random `Bert` or `Roberta`, its tables and gains drawn wide enough to be seen."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**{"vocab_size": len(vocabulary()), **SIZES, **changes})
    model = getattr(transformers, f"{kind}ForMaskedLM" if head else f"{kind}Model")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    if kind == "Bert":
        (folder / "vocab.txt").write_text("\n".join(vocabulary()) + "\n", encoding="utf-8")
    return folder


def main() -> None:
    """Writes the fixture: the folder, and the states of a few rows beside it."""
    import transformers

    saved(FIXTURE, "Bert")
    model = transformers.AutoModel.from_pretrained(FIXTURE, dtype=torch.float32).eval()
    held = {}
    with torch.no_grad():
        for number, row in enumerate(ROWS):
            held[f"{number}.source"] = torch.tensor(row)
            held[f"{number}.states"] = model(input_ids=torch.tensor([row])).last_hidden_state[0].contiguous()
    save_file(held, FIXTURE / "reference.safetensors")


if __name__ == "__main__":
    main()
