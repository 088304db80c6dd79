"""The special tokens, in the order of their ids."""

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")  # ids 0 to 4 of every tokenizer trained here
SPECIAL_IDS = len(SPECIAL_TOKENS)
