"""What executes notebooks. Nothing in here is imported by a notebook."""
