"""What a notebook shows: parameters, figures, exercises, things to play with, recorded numbers."""
