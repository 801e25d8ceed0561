"""A campaign: plan, loop, session, display, environment, replay."""
