"""The sources that a provider gives for a grounded image: HTML of strangers, made safe to be put into a page."""

from importlib import import_module

MAX_CHARACTERS = 64 * 1024
_TAGS = {"a", "b", "br", "div", "em", "i", "li", "ol", "p", "span", "strong", "ul"}
# Google sends its chips with a style sheet and logos. Neither classes nor styles pass: they would reach for the page's.
_GONE_WITH_CONTENT = {"script", "style", "svg", "template", "title"}


def clean_sources(html: str | None) -> str | None:
    """Text, lists and links to http and https alone; None when nothing is left."""
    if html is None:
        return None
    # Loaded with the first sources that come: it takes 1.6 MB of each process, most of which never see any.
    cleaned: str = import_module("nh3").clean(
        html[:MAX_CHARACTERS],
        tags=_TAGS,
        clean_content_tags=_GONE_WITH_CONTENT,
        attributes={"a": {"href", "title"}},
        url_schemes={"http", "https"},
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )
    return cleaned.strip() or None
