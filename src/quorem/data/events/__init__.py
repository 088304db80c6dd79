"""Logs of events: files with a row for each event, sorted on the disc into one document for each user or session."""
