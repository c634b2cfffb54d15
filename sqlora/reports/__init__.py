"""What a person reads: the run's header, the comparison, the HTML page, the loss curve, the model card."""
