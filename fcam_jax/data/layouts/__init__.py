"""How a user's folder may be laid out: a reader for each layout, and what is wrong with what it reads."""
