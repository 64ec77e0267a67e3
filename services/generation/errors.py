"""What can go wrong with an image that is made already."""

from core.errors import DependencyUnavailable


class ImagePending(DependencyUnavailable):
    """The image is stored and will be charged, but could not be entered into the history yet: the sweep does that.

    Code and status are those of the database being away; the text is another, since here nothing is to be sent again.
    """

    type = "image_pending"

    def __init__(self, private_message: str) -> None:
        super().__init__("database", private_message)
