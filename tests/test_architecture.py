"""docs/architecture.md tells what the code tells."""

from docs.architecture import PAGE, page, rooms, tree


def test_the_page_is_what_the_files_say_now() -> None:
    assert PAGE.read_text() == page(), "write it anew: python -m docs.architecture"


def test_its_tree_names_every_room() -> None:
    missing = [room for room in rooms() if f"  {room}/" not in tree()]
    assert not missing and tree() in PAGE.read_text()
