"""Models: front-end, blocks, encoder, pre-training heads, export."""
