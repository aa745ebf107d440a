"""Training: slots, the loss, the loop that advances them, and checkpoints that continue bit for bit."""
