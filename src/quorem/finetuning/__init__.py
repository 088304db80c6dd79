"""Fine-tuning and predicting: a run from labelled rows to a classifier, and what it says of new rows."""
