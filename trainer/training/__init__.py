"""One optimizer step: losses and their weights, weights and their average, several processes."""
