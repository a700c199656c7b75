"""One trainer, and the checkpoints that it writes."""
