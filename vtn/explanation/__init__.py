"""What a model looked at in one video, and whether that mattered to its answer."""
