"""Folders as they are published: forms, card, release, upload."""
