"""What runs on the user's machine: the engine's check, the images, a campaign's containers."""
