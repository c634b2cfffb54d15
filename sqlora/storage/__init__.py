"""Files: written whole or not at all, never over somebody else's; checkpoints, downloads."""
