"""Small random decoders of text as transformers saves and computes them; `python tests/interop/decoder_references.py`
writes the reference that a test meets without the library (made with transformers 5.24)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "hugging_face" / "qwen2"
SIZES = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 128,
    "bos_token_id": 57,
    "eos_token_id": 58,
    "pad_token_id": 57,
}
DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2": ("Qwen2", {"tie_word_embeddings": True, "rope_theta": 1e6}),
    "qwen2, a head of its own": ("Qwen2", {"tie_word_embeddings": False}),
    "llama": ("Llama", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}),
    "mistral": ("Mistral", {"sliding_window": None, "num_key_value_heads": 1}),
}


def decoder(folder: Path, name: str, **changes: Any) -> Any:
    """A random model, saved, its tables, biases and gains drawn wide enough to be seen; the model itself."""
    import transformers

    kind, own = DECODERS[name]
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**{**SIZES, **own, **changes})
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


def tokenizer(folder: Path) -> Any:
    """A small text model of bytes with Qwen2's marks, saved beside the weights; the object of `tokenizers`."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=270, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(["the cat is here, user assistant system"] * 4, trainer)
    names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    made.add_special_tokens([AddedToken(name, special=True) for name in names])
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    return made


def main() -> None:
    """Writes the fixture."""
    shutil.rmtree(FIXTURE, ignore_errors=True)
    model = decoder(FIXTURE, "qwen2")
    (FIXTURE / "generation_config.json").unlink(missing_ok=True)
    rng, held = torch.Generator().manual_seed(1), dict[str, torch.Tensor]()
    for i, (source, target) in enumerate(((9, 6), (0, 5), (3, 1))):
        ids = torch.randint(0, 57, (source + target,), generator=rng)
        fed = torch.cat([ids[:source], torch.tensor([57]), ids[source:-1]])
        with torch.no_grad():
            held[f"{i}.logits"] = model(input_ids=fed[None]).logits[0, source:].clone()
        held[f"{i}.source"], held[f"{i}.target"] = ids[:source].clone(), ids[source:].clone()
    save_file(held, FIXTURE / "reference.safetensors")
    assert json.loads((FIXTURE / "config.json").read_text(encoding="utf-8"))["model_type"] == "qwen2"


if __name__ == "__main__":
    main()
