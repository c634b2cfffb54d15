"""Writing SQL: continuous batching over a KV cache, sampling, the answers kept for --resume."""
