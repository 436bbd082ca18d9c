"""The two training loops, self-supervised and supervised, with their encoders and optimisers."""
