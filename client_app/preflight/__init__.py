"""`fednc-site check`: everything that can be wrong at a site, before the first round."""
