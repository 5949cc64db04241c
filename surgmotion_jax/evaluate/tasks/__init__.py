"""Task families: from predictions to tables of a row a moment, and from tables to numbers."""
