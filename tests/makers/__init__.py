"""Runs and scores that several test rooms make in the same way."""
