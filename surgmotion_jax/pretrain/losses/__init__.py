"""Loss terms over masked tokens: one file each, and the table that names them (`table.py`)."""
