"""Results that are published in the repository: from runs to a file of data, and from that to pages."""
