"""What each paper compares: CLSP's ablations, MixDiff's arms, DiffuseMix's rivals."""
