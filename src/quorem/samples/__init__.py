"""Built-in synthetic samples: what can be learned from them is known."""

from quorem.samples.reviews import write_reviews
from quorem.samples.sessions import entropies, write_sessions

__all__ = ["entropies", "write_reviews", "write_sessions"]
