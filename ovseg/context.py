"""Short prompts in a text tower that reads 77 tokens: what stands behind the end of a prompt need not be computed.

In CLIP's text tower a token attends to those before it alone, and the embedding is that of the end token: padding
behind it has no part in it. The embeddings of prompts of ten tokens are the same, in a seventh of the work.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


def used_length(tower: Any, tokens: Tensor) -> int:
    """How many of `tokens` (N, length) the embeddings depend on: up to the last end token, the highest of its row.

    All, unless `tower`, an open_clip CLIP or TextTransformer, is causal and takes the embedding of that token.
    """
    pool = getattr(tower, "text_pool_type", getattr(tower, "pool_type", ""))
    if pool != "argmax" or tower.attn_mask is None or getattr(tower, "cls_emb", None) is not None:
        return tokens.shape[1]
    return int(tokens.argmax(dim=1).max()) + 1


@contextmanager
def shortened(tower: Any, length: int) -> Iterator[None]:
    """Lets a causal `tower` read `length` tokens, fewer than it was made for; then puts back what was changed."""
    positions, mask = tower.positional_embedding, tower.attn_mask
    tower.positional_embedding = nn.Parameter(positions.detach()[:length], requires_grad=False)
    tower.attn_mask = mask[:length, :length]
    try:
        yield
    finally:
        tower.positional_embedding, tower.attn_mask = positions, mask
