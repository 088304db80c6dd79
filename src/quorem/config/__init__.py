"""Settings: their definitions, how they are read and written, and how files of them are checked."""
