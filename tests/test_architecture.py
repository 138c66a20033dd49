"""docs/architecture.md tells what the code tells."""

from docs.architecture import PAGE, ROOT, page, rooms


def test_the_page_is_what_the_files_say_now() -> None:
    assert PAGE.read_text() == page(), "write it anew: python -m docs.architecture"


def test_the_readme_names_every_room() -> None:
    readme = (ROOT / "README.md").read_text()
    missing = [room for room in rooms() if f"{room}/" not in readme]
    assert not missing
