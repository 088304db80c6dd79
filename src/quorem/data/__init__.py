"""From files to batches: readers, token shards, rows."""
