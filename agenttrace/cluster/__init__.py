"""Campaigns over several machines: shards of a plan, whose records lie in an object store until they are merged."""
