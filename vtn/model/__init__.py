"""The Video Transformer Network: backbone, temporal encoder, head and checkpoints."""
