"""The parts of the demo model's training: data, conversations, tokenizer, network, training loop, file format."""
