"""Whole campaigns: what they cost, what kills lose, whether prompts are counted right."""
