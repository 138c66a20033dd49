"""Text from a template that lies beside the module that fills it in."""

from typing import Any


def filled_in(package: str, file: str, /, **values: Any) -> str:
    """Return a template's text with its values; one that is missing is an error.

    Args:
        package: Where the template lies, such as `search.report`.
        file: Its name.
        values: By the names that it uses.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(package, ""),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown and YAML
    )
    return environment.get_template(file).render(values)
