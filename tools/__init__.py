"""What only the repository needs: the publication of results."""
