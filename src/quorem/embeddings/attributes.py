"""Composition over attributes: partitions that a user knows, rather than arithmetic on ids.

Shi et al. 2020, arXiv:1909.02107, sec. 3: what is known of the categories partitions them too, as year x make x type
partition cars. These partitions are complementary if no two tokens have all attributes the same, which `set_attributes`
checks. Unlike codes made of ids, the rows mean something: tokens of one make share what is learned of the make.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from quorem.embeddings.assignment import Assignment
from quorem.embeddings.partition import PartitionEmbedding


class AttributesEmbedding(PartitionEmbedding):
    """One table for each attribute, with a row for each of its values.

    Which values a token has is an index, int32 (V - K, k), stored with the weights. Until it is set or loaded, values
    are the digits of the rank in a mixed radix, so that a model can be built from its config alone.

    Args:
        assignment: the tier, and the order of the ids that have attributes.
        dim: D.
        sizes: values of each attribute; their product is at least the number of ids that share rows.
        operation: multiply, add or concat.
        more: rank and own_rank, as for every partition.
    """

    uniqueness: ClassVar[str] = "their attributes differ; reading the file checks this"

    settings: ClassVar[tuple[str, ...]] = (*PartitionEmbedding.settings, "attributes_file")

    attributes: Tensor

    def __init__(
        self, assignment: Assignment, dim: int, *, sizes: Sequence[int], operation: str = "multiply", **more: Any
    ) -> None:
        if not sizes or min(sizes) < min(1, assignment.tail):
            raise ValueError(f"sizes {list(sizes)}: the number of values of one or more attributes needed")
        if math.prod(sizes) < assignment.tail:
            raise ValueError(
                f"sizes {list(sizes)}: {math.prod(sizes)} combinations of values are below the {assignment.tail} ids "
                "to tell apart: more attributes, a smaller vocabulary or a larger tier needed"
            )
        names = [f"attribute_{number}" for number in range(1, len(sizes) + 1)]
        super().__init__(assignment, dim, sizes=sizes, operation=operation, names=names, **more)
        self.options["sizes"] = list(sizes)
        digits, left = [], torch.arange(assignment.tail, dtype=torch.int32)
        for size in sizes:
            digits.append(left % max(1, size))
            left = torch.div(left, max(1, size), rounding_mode="floor")
        self.register_buffer("attributes", torch.stack(digits, dim=-1))

    @property
    def capacity(self) -> int:
        """The ids there are: a new one comes without attributes."""
        return self.assignment.vocab_size

    def codes(self, tail: Tensor) -> tuple[Tensor, ...]:
        """The values."""
        return tuple(self.attributes[tail].long().unbind(-1))

    @torch.no_grad()
    def set_attributes(self, values: Tensor) -> None:
        """Set the values of the tokens.

        Args:
            values: integers (V - K, k), in the order of ranks; those of attribute j in [0, sizes[j]).

        Raises:
            ValueError: for another shape, a value out of range, or two tokens with all values the same.
        """
        sizes = torch.tensor([len(table) for table in self.tables], device=values.device)
        if values.shape != self.attributes.shape:
            raise ValueError(f"values of shape {tuple(self.attributes.shape)} needed, not {tuple(values.shape)}")
        if not ((values >= 0) & (values < sizes)).all():
            raise ValueError(f"values from 0 to below {sizes.tolist()} needed")
        if len(values.unique(dim=0)) < len(values):
            raise ValueError("two tokens have the same attributes, so the model cannot tell them apart")
        self.attributes.copy_(values)

    def grown(self, vocab_size: int) -> "AttributesEmbedding":
        """Refused: new ids come without attributes.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"vocab_size={vocab_size}: new tokens have no attributes: pre-train with a file that has them")
