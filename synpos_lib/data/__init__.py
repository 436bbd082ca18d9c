"""Images by name: embedded ones drawn on the fly, real ones decoded once."""
