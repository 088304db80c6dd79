"""Generators that do not learn: word frequencies without a network, or a network as an earlier run has left it."""

import os
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

from quorem.errors import UserError
from quorem.models.checkpoint_files import fill
from quorem.models.configuration import QuoremConfig
from quorem.models.modeling import QuoremForMaskedLM

UNIGRAM = "unigram"  # as objective.generator has it


class UnigramGenerator(nn.Module):
    """Replacements drawn by frequency, whatever the context: its own generator and head, without parameters.

    Args:
        counts: int64 (V,), how often each id occurs; one that never does counts as one half.
        never: ids that are never drawn.
    """

    log_probs: Tensor

    def __init__(self, counts: Tensor, *, never: Iterable[int] = ()) -> None:
        super().__init__()
        shares = counts.double().clamp(min=0.5)
        shares[list(never)] = 0
        self.register_buffer("log_probs", (shares / shares.sum()).log().float(), persistent=False)

    @property
    def generator_lm_head(self) -> "UnigramGenerator":
        """Itself."""
        return self

    def hidden_at(self, input_ids: Tensor, attention_mask: Tensor | None, positions: Tensor) -> Tensor:
        """Nothing is known at flat positions int64 (n,): float32 (n, 0)."""
        return torch.empty(len(positions), 0, device=positions.device)

    def nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """-log p (nats), float32 (n,), of targets int64 (n,)."""
        return -self.log_probs.gather(0, targets)

    def sample(
        self, hidden: Tensor, uniforms: Tensor, exclude: Tensor | None = None, *, temperature: float = 1.0
    ) -> Tensor:
        """As GeneratorHead's; `exclude` is not supported."""
        assert exclude is None
        cumulative = torch.softmax(self.log_probs.double() / temperature, dim=-1).cumsum(-1)
        return torch.searchsorted(cumulative, uniforms * cumulative[-1], right=True).clamp(max=len(cumulative) - 1)

    def topk(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """The k most probable ids, log-probabilities float32 and ids int64, (n, k) each."""
        values, ids = self.log_probs.topk(k)
        return values.expand(len(hidden), -1), ids.expand(len(hidden), -1)


def frozen_generator(folder: str | Path, *, tokenizer_fingerprint: str) -> QuoremForMaskedLM:
    """The generator of an earlier run, which learns no more (Dong et al., Fast-ELECTRA, arXiv:2310.07347).

    Args:
        folder: of the generator.
        tokenizer_fingerprint: of the tokenizer that ids come from; the generator's has to be the same.

    Raises:
        UserError: if there is none in the folder, or one for other tokens.
    """
    check_generator(folder)
    try:
        with torch.random.fork_rng(devices=[]):
            generator = QuoremForMaskedLM(QuoremConfig.from_pretrained(folder, local_files_only=True))
        new = fill(generator, Path(folder), "generator")
    except UserError as error:
        raise UserError(f"objective.generator={folder}: {error}") from error
    except Exception as error:  # a damaged file can fail in any way
        raise UserError(f"objective.generator={folder}: cannot be read ({error}): give another folder") from error
    if new:
        raise UserError(
            f"objective.generator={folder}: is an encoder without a softmax: give a whole generator's folder"
        )
    if generator.config.tokenizer_fingerprint != tokenizer_fingerprint:
        raise UserError(
            f"objective.generator={folder}: its tokenizer is another, so that ids would mean other tokens: give this "
            f"run its own, tokenizer.path={folder}"
        )
    return generator.eval().requires_grad_(False)


def check_generator(folder: str | Path) -> None:
    """Accept the folder of a generator only.

    Raises:
        UserError: for another.
    """
    if not os.path.isfile(Path(folder) / "config.json"):  # a name that is too long for a path is no error to it
        raise UserError(
            f"objective.generator={folder}: trained, {UNIGRAM} or a folder with a generator's "
            "config.json and weights is needed, such as runs/earlier/generator"
        )
