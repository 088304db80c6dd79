"""Memory and time of training a tokenizer on a stream of a million distinct words.

    python benchmarks/tokenizer_training.py KIND VOCAB_SIZE

Every word occurs once, and a million more are drawn by Zipf's law. The peak is that of the whole process.
"""

import resource
import sys
import time
from collections.abc import Iterator

import numpy as np

from quorem.tokenization import train_tokenizer

WORDS, IN_A_TEXT = 1_000_000, 20


def spell(number: int) -> str:
    """A word of syllables, another for each number."""
    number, syllables = number + 400, []
    while number:
        number, digit = divmod(number, 100)
        syllables.append("bcdfghjklmnprstvwxyz"[digit // 5] + "aeiou"[digit % 5])
    return "".join(syllables)


def texts() -> Iterator[str]:
    """The stream."""
    names = [spell(number) for number in range(WORDS)]
    for numbers in (range(WORDS), (np.random.default_rng(0).zipf(1.2, WORDS) % WORDS).tolist()):
        for start in range(0, WORDS, IN_A_TEXT):
            yield " ".join(names[number] for number in numbers[start : start + IN_A_TEXT])


def main() -> None:
    """Train one tokenizer and print what it took."""
    kind, vocab_size = sys.argv[1], int(sys.argv[2])
    before, began, used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.time(), time.process_time()
    tokenizer = train_tokenizer(texts(), kind=kind, vocab_size=vocab_size)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{kind}: {len(tokenizer):,} tokens, {time.process_time() - used:.0f} s of processor time, "
        f"{time.time() - began:.0f} s, peak {peak / 1024:.0f} MiB, {before / 1024:.0f} of them before"
    )


if __name__ == "__main__":
    main()
