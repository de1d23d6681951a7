"""Maps of a user's own images: the files, the network on them, maps and boxes at their own size, pictures, records."""
