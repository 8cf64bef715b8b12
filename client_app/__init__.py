"""A site: its data, local training, personal head, local realignment (LA-FR)."""
