"""Makes a finished capture smaller and faster to search: sorted message files; and removes what is too old."""
