"""Text as it is compared."""

import unicodedata


def fold(text: str) -> str:
    """Without what case and width make of a character."""
    return unicodedata.normalize("NFKC", text).casefold()
