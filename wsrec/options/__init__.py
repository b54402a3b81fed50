"""The options of a recording, each declared once: its values, default, help, and which process needs it."""
