"""A run's networks in the formats of others: plain ELECTRA, ONNX, and folders that bring their code along."""
