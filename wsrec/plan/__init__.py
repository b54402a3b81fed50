"""Planning: turns a feed and symbols into connections and subscription requests."""
