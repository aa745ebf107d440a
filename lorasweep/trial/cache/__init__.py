"""What is expensive to compute and the same for every trial: latents and caption embeddings, by content."""
