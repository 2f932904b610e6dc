"""Export and import of inboxes. ``transfer`` is where to begin."""
