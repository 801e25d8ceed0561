"""Figures over runs with several attempts at a task: statistics, the table that compares two, the text of a card."""
