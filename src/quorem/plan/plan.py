"""What a pre-training run is made from: its settings with nothing left open, and the configs of its networks.

It is made once, when the vocabulary is known, and handed on to all that builds, measures or describes.
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
        """The plan that settings stand for.

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
        """The plan if the vocabulary is as large as asked for, and all values in a file of attributes are used.

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
        """The same plan once it is known how many values each attribute has; itself for None."""
        return self if sizes is None else Plan.of(self.config, self.vocab_size, attributes=sizes)
