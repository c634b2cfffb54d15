"""The prompt, the one contract between training and generation."""
