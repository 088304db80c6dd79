"""What is known about tokens before training: order, attributes, clusters and co-occurrence vectors."""
