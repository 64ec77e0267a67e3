"""The proxy that the environment wants for an address: HTTP_PROXY, HTTPS_PROXY, NO_PROXY, read once a client.

A library that trusts the environment by itself looks into it, and into the user's netrc, for each request.
"""

import urllib.request
from urllib.parse import urlsplit


def proxy_for(address: str) -> str | None:
    """The proxy's address, with its credentials if it has any; None for none."""
    parts = urlsplit(address)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy is None or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return proxy
