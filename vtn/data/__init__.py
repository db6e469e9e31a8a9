"""Labelled videos: sources, annotations, decoding, the frame store, sampling and clips."""
