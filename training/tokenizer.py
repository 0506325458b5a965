"""A small CLIP tokenizer learned from captions: byte-level BPE in lower case, which encodes any text."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

CONTEXT_LENGTH = 32  # tokens, with begin and end of text
WORDS = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def learn_tokenizer(captions: Iterable[str], folder: Path, vocab_size: int = 1024) -> int:
    """Write tokenizer files that transformers, diffusers and open_clip all read; returns the vocabulary size.

    The layout is CLIP's: 256 bytes, the same 256 at the end of a word, the merges, begin of text, end of text. The end
    of text must be the highest id: CLIP's text pooling takes the position of the largest id.
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import AutoTokenizer

    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    split = pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        special_tokens=[],
        show_progress=False,
    )
    bpe.train_from_iterator(captions, trainer)
    merges = [tuple(merge) for merge in json.loads(bpe.to_str())["model"]["merges"]][
        : vocab_size - 2 * len(alphabet) - 2
    ]
    tokens = [
        *alphabet,
        *(c + "</w>" for c in alphabet),
        *("".join(m) for m in merges),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    vocab = {token: i for i, token in enumerate(dict.fromkeys(tokens))}

    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "vocab.json": json.dumps(vocab, ensure_ascii=False),
        "merges.txt": "#version: 0.2\n" + "\n".join(" ".join(m) for m in merges) + "\n",
        "tokenizer_config.json": json.dumps({"tokenizer_class": "CLIPTokenizer", "model_max_length": CONTEXT_LENGTH}),
    }
    # The first two are written again at the end, since not every version of transformers saves them as they are here.
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    for name in ("vocab.json", "merges.txt"):
        (folder / name).write_text(files[name], encoding="utf-8")
    return len(vocab)
