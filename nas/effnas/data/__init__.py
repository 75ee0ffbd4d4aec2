"""Images: finding, reading and decoding them, and holding some out."""
