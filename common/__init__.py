"""What both sides agree on: configuration, wire, model, methods, metrics, data.

Imports neither `server_app` nor `client_app`, and does not know which side it runs on.
"""

__version__ = "0.1.0"
DISTRIBUTION = "fednc"  # others call their packages `common`, too: by this the apps know ours
