"""`fednc provision`: certificates, keys and kits for a real federation."""
