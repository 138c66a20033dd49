"""Pictures of what a model does to fixed cases."""
