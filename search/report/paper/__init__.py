"""A study as LaTeX for a paper: tables, vector figures, methods and bibliography."""
