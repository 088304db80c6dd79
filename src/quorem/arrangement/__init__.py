"""What is known of tokens before training: their order, attributes, clusters, and vectors by what stands together."""
