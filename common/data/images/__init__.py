"""From a file or an array to pixels: decoding, levels, caches, transforms."""
