"""The shared memory between receiver and writer: mirrored byte rings, the slot ring, events and the status page."""
