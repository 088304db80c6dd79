"""The plan of a pre-training run: its resolved settings and the configs of its networks.

A plan is made once, when the vocabulary is known. Everything that builds, measures or describes a run reads it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from quorem.arrangement.attribute_file import read_attributes
from quorem.config.settings import PretrainConfig
from quorem.models.configuration import QuoremConfig
from quorem.plan.presets import network_configs


@dataclass(frozen=True)
class Plan:
    """Settings and configs.

    Attributes:
        config: resolved settings.
        generator: the generator's config, whichever generator is used.
        discriminator: the discriminator's.
    """

    config: PretrainConfig
    generator: QuoremConfig
    discriminator: QuoremConfig

    @classmethod
    def of(
        cls, config: PretrainConfig, vocab_size: int | None = None, *, attributes: Sequence[int] | None = None
    ) -> "Plan":
        """Make the plan of resolved settings.

        Args:
            config: resolved settings (`quorem.plan.recipes.resolve`).
            vocab_size: the tokens there are; those asked for if None.
            attributes: of a table of attributes: how many values each has. While it is None, the plan says how the
                tokens are arranged, and such a table cannot be built.

        Raises:
            UserError: for sizes that do not fit each other.
        """
        networks = network_configs(
            config.model,
            vocab_size=vocab_size or config.model.vocab_size,
            max_length=config.data.max_length or 2,
            attributes=attributes,
        )
        return cls(config, *networks)

    @classmethod
    def as_asked(cls, config: PretrainConfig) -> "Plan":
        """The plan for the full vocabulary size asked for, with all values of an attributes file in use.

        Args:
            config: resolved settings.

        Raises:
            UserError: for sizes that do not fit each other, or a file that cannot be read.
        """
        file = config.model.embedding.attributes_file
        return cls.of(config, attributes=None if file is None else read_attributes(file).sizes)

    @property
    def vocab_size(self) -> int:
        """V, special tokens included."""
        return int(self.discriminator.vocab_size)

    @property
    def table(self) -> dict[str, Any]:
        """The config's entry of the token table."""
        return dict(self.discriminator.embedding or {})

    def with_attributes(self, sizes: Sequence[int] | None) -> "Plan":
        """The same plan with the number of values of each attribute; unchanged for None."""
        return self if sizes is None else Plan.of(self.config, self.vocab_size, attributes=sizes)
