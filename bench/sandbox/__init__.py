"""What a sandbox worker costs, and whether its figures hold."""
