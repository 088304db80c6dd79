"""What a pre-trained encoder is fine-tuned for."""
