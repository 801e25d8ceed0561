"""Raw counters of a call become one normalised `records.Telemetry`."""
