"""What a person looks at: the page of an evaluation, tables of several, pictures of clips as training sees them."""
