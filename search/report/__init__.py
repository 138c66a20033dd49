"""How results look: tables, curves, the page, the model card."""
