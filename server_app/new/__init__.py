"""`fednc new DATA`: look at a folder, manifest or archive of images, and write an experiment that runs as it is."""

from server_app.new.command import new_experiment

__all__ = ["new_experiment"]
