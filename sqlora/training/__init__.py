"""Fine-tuning: batches, loss, checkpoints, memory."""
