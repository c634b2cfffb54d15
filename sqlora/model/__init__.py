"""The base model and its adapter: loading, quantisation, devices, what differs between architectures and libraries."""
