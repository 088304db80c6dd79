"""The readers by name, for tests of what each does with its files."""

from quorem.data.readers import READERS

read_csv, read_jsonl, read_text, read_folder, read_parquet, read_midi = (
    READERS[name].read for name in ("csv", "jsonl", "text", "folder", "parquet", "midi")
)
