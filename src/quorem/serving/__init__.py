"""Serving a run over HTTP: endpoints by what it has learned, batches, limits, and a page for people."""
