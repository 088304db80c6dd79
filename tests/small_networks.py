"""Settings of networks so small that a step takes little: for tests of all but what networks learn."""

SMALL_NETWORKS = (
    "model.size=tiny",
    "model.embedding_size=16",
    "model.discriminator.hidden_size=32",
    "model.discriminator.intermediate_size=32",
    "model.discriminator.attention_head_size=8",
    "model.generator.hidden_size=16",
    "model.generator.intermediate_size=16",
    "model.generator.attention_head_size=8",
)
