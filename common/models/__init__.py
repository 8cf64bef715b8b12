"""Backbones, heads, label-aware attention, and the model that they make."""
