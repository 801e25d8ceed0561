"""Checks and measurements of the kit on the machine it runs on."""
