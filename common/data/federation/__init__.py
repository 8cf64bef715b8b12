"""Who holds which images: long tail, composites, partition over sites, local test splits."""
