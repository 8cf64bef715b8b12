"""The site: its configuration, images, policy, device and log."""
