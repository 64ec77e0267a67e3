"""Links that open an image in an `<img>`, without a header, for a while."""

from urllib.parse import quote

from core.clock import Milliseconds
from core.security import LinkSigner

PARTS_OF_LIFE = 4


class LinkService:
    """`ttl_seconds`: IMAGE_URL_TTL_SECONDS. `public_url`: of a bucket that everybody can read, else empty."""

    def __init__(self, signer: LinkSigner, ttl_seconds: int, public_url: str) -> None:
        self._signer = signer
        self._ttl = ttl_seconds
        self._public_url = public_url

    def expires_at(self, now: Milliseconds) -> int:
        """When links that are made now end, in seconds since 1970.

        Rounded down to a quarter of their life, so that the same link comes again and a browser's cache serves a list
        that is loaded twice.
        """
        step = max(1, self._ttl // PARTS_OF_LIFE)
        return (now // 1000 + self._ttl) // step * step

    def urls(self, base_url: str, image_id: str, key: str, expires_at: int) -> tuple[str, str]:
        """The links of an image and of its thumbnail, which one signature opens; `key` is the image's in storage.

        An image in a public bucket has the bucket's own address; its thumbnail may still have to be made.
        """
        address = f"{base_url}/api/images/{image_id}"
        query = f"exp={expires_at}&sig={self._signer.sign(image_id, expires_at)}"
        image_url = f"{self._public_url}/{quote(key)}" if self._public_url else f"{address}?{query}"
        return image_url, f"{address}/thumbnail?{query}"

    def opens(self, image_id: str, expires_at: int, signature: str, now: Milliseconds) -> bool:
        """`expires_at` in seconds since 1970, as it stands in the link."""
        return expires_at * 1000 > now and self._signer.verify(image_id, expires_at, signature)
