"""Serving profiles, and the client that talks to the model server."""
