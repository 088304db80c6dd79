"""The progress of a preparation: a bar on a terminal, or a log line every SECONDS_TO_LOG."""

import logging
import time
from collections.abc import Callable

from quorem.bars import bar

logger = logging.getLogger(__name__)

SECONDS_TO_LOG = 30


class Progress:
    """Documents, tokens, their rate and the time left, which follows from the share of the data that is read.

    Args:
        name: of what is done.
        share_read: 0 to 1, or None where that cannot be known.
        tokens: that were there before.
        quiet: whether nothing is shown.
    """

    def __init__(
        self, name: str, share_read: Callable[[], float | None], *, tokens: int = 0, quiet: bool = False
    ) -> None:
        self.name, self.share_read, self.tokens_before, self.quiet = name, share_read, tokens, quiet
        self.began = self.logged = time.monotonic()
        self.share_before = share_read()
        known = self.share_before is not None
        self.bar = bar(
            total=1.0 if known else None,
            initial=self.share_before or 0.0,
            hidden=quiet,
            bar_format="{percentage:3.0f}%|{bar}| {desc} [{elapsed}<{remaining}]" if known else "{desc} [{elapsed}]",
        )

    def show(self, documents: int, *, tokens: int | None = None) -> None:
        """Bring what is shown up to date.

        Args:
            documents: read in all.
            tokens: written in all; None where there are none.
        """
        now, share = time.monotonic(), self.share_read()
        line = f"{self.name}: {documents:,} documents"
        if tokens is not None:
            rate = (tokens - self.tokens_before) / max(now - self.began, 1e-9)
            line += f", {tokens:,} tokens, {rate:,.0f} tokens/s"
        if not self.bar.disable:
            self.bar.set_description_str(line, refresh=False)
            self.bar.update(max(0.0, (share or 0.0) - self.bar.n))
        elif now - self.logged > SECONDS_TO_LOG and not self.quiet:
            self.logged = now
            logger.info("%s%s", line, self._left(now, share))

    def close(self) -> None:
        """End the bar."""
        self.bar.close()

    def _left(self, now: float, share: float | None) -> str:
        if share is None or self.share_before is None or share <= self.share_before:
            return ""
        seconds = (now - self.began) * (1 - share) / (share - self.share_before)
        return f", {100 * share:.0f} % read, about {seconds:,.0f} s left"
