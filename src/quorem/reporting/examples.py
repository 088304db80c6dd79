"""A few rows of a finished pre-training run as both networks see them: masks, samples and verdicts, token by token."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from quorem.config.settings import PretrainConfig
from quorem.data.batches import MASKING, step_seed
from quorem.data.prepare import is_prepared, load_prepared
from quorem.data.rows import split_rows
from quorem.errors import UserError
from quorem.models.electra import corrupt
from quorem.models.masking import mask_tokens
from quorem.models.modeling import QuoremForMaskedLM, QuoremForPreTraining

ROWS_SHOWN, TOKENS_SHOWN = 6, 64


@dataclass(frozen=True)
class Token:
    """One place of a row.

    Attributes:
        original: the token that stood there.
        shown: the one the discriminator reads.
        masked: whether the generator had to fill it in.
        probability: the discriminator's, that it was replaced.
    """

    original: str
    shown: str
    masked: bool
    probability: float

    @property
    def replaced(self) -> bool:
        """Whether the discriminator reads another token than stood there."""
        return self.original != self.shown


@torch.no_grad()
def examples(run: Path, config: PretrainConfig) -> list[list[Token]]:
    """Rows from all over the training data, masked and filled in as at the run's last step; the same ones each time.

    Args:
        run: the folder of a finished pre-training run.
        config: its settings.

    Raises:
        UserError: if its data or its models are not there any more.
    """
    prepared = is_prepared(config.data.path)
    tokenizer, shards = load_prepared(str(config.data.path) if prepared else run / "data")
    objective = config.objective
    try:
        discriminator = QuoremForPreTraining.from_pretrained(run / "discriminator", local_files_only=True).eval()
        generator = QuoremForMaskedLM.from_pretrained(run / "generator", local_files_only=True).eval()
    except Exception as error:  # a damaged file can fail in any way
        raise UserError(f"{run}: its models cannot be read ({error})") from error
    rows, _ = split_rows(config.data, shards, tokenizer, seed=config.train.seed)
    chosen = np.unique(np.linspace(0, len(rows) - 1, ROWS_SHOWN + 1, dtype=np.int64)[:-1])
    ids, attention_mask = rows.batch(chosen)
    masked = mask_tokens(
        ids,
        attention_mask,
        special=torch.tensor([i for i in tokenizer.all_special_ids if i != tokenizer.unk_token_id]),
        mask_id=tokenizer.mask_token_id,
        rate=float(objective.mask_rate_end or objective.mask_rate or 0),
        keep=float(objective.keep_rate or 0),
        rng=torch.Generator().manual_seed(step_seed(config.train.seed, MASKING)),
    )
    positions = masked.chosen.flatten().nonzero().squeeze(-1)
    hidden = generator.hidden_at(masked.masked_ids, attention_mask, positions)
    samples = generator.generator_lm_head.sample(hidden, masked.uniforms.flatten()[positions])
    corrupted, _ = corrupt(ids, positions, samples)
    scores = torch.sigmoid(discriminator(corrupted, attention_mask).logits)
    found = []
    for row, length in enumerate((ids != tokenizer.pad_token_id).sum(1).clamp(max=TOKENS_SHOWN).tolist()):
        original, shown = (tokenizer.convert_ids_to_tokens(each[row, :length].tolist()) for each in (ids, corrupted))
        facts = zip(original, shown, masked.chosen[row].tolist(), scores[row].tolist(), strict=False)
        found.append([Token(*fact) for fact in facts])
    return found
