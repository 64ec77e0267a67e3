"""What can come between a call and its image."""

from core.errors import DependencyUnavailable


class ImagePending(DependencyUnavailable):
    """The image is stored and will be charged, but could not be entered into the history yet: the sweep does that.

    Code and status are those of the database being away; the text is another, since here nothing is to be sent again.
    """

    type = "image_pending"

    def __init__(self, private_message: str) -> None:
        super().__init__("database", private_message)


class ClientGone(Exception):
    """The client hung up before the provider was called; the points went back and nobody waits for an answer."""
