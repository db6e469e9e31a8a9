"""Training: augmentation, optimiser and schedule, the loop and how it resumes."""
