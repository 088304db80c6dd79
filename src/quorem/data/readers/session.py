"""Lists as texts: what stands in a list is an item of a session, and tabs stand between items."""

from collections.abc import Iterable

from quorem.data.bad_rows import BadRow


def join_items(place: str, items: Iterable[str]) -> str:
    r"""The items with a tab between two, for a tokenizer of items (tokenizer.separator=\t where items have spaces).

    Args:
        place: of the list, for the message.
        items: texts; empty ones are left out, as between two separators.

    Raises:
        BadRow: for an item with a tab.
    """
    kept = [item for item in items if item]
    tabbed = next((item for item in kept if "\t" in item), None)
    if tabbed is not None:
        raise BadRow(f"{place} has an item with a tab ({tabbed!r}), which is what separates items: replace it.")
    return "\t".join(kept)
