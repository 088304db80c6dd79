"""What each sub-command does: one file each, imported when it is run, for what it needs takes seconds."""
