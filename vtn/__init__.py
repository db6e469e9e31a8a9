"""VTN Lab: train, understand and deploy a Video Transformer Network.

Shape letters mean the same everywhere: B clips, T frames, C channels, H W pixels, D features,
K classes, N heads.
"""
