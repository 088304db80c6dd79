"""What comes of settings before anything is trained: names filled in, sizes of tables, bytes, and a dry run."""
